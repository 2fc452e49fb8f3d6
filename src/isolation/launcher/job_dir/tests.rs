use super::*;

fn dirs() -> (tempfile::TempDir, JobDirs) {
    let state = tempfile::tempdir().expect("tempdir");
    let gid = rustix::process::getegid().as_raw();
    let dirs = JobDirs::open(&state.path().join("control"), &state.path().join("jobs"), gid).expect("jobs");
    (state, dirs)
}

fn job_file() -> JobFile {
    JobFile {
        format: FORMAT,
        tenant: "default".into(),
        policy: "default".into(),
        created_at: Timestamp::now(),
        idempotency_key: None,
        supervisor_pid: 1,
        cgroup: "1".into(),
    }
}

#[test]
fn a_folder_is_alive_as_long_as_its_lock_is_held() {
    let (_state, dirs) = dirs();
    let id = JobId::random();
    let made = dirs.make(id).expect("make");
    let copy = made.try_clone().expect("dup");
    drop(made);
    assert!(
        dirs.existing(id).expect("existing").1,
        "a copy of the descriptor holds the lock"
    );
    drop(copy);
    assert!(!dirs.existing(id).expect("existing").1);
    assert_eq!(dirs.all().expect("all"), [id]);
    dirs.remove(id).expect("remove");
    assert!(dirs.all().expect("all").is_empty());
}

#[test]
fn an_id_is_used_once() {
    let (_state, dirs) = dirs();
    let id = JobId::random();
    let is_taken = || dirs.make(id).expect_err("twice").kind() == io::ErrorKind::AlreadyExists;
    let made = dirs.make(id).expect("make");
    assert!(is_taken(), "while another start is at it");
    drop(made);
    let torn = |bytes: &[u8]| {
        let made = dirs.make(id).expect("a start that never let the job go is none");
        write_new(&made, JOB_FILE, bytes).expect("write");
    };
    torn(b"");
    torn(b"{\"format\":1,\"ten");
    let made = dirs.make(id).expect("nor with a torn job file");
    write_job_file(&made, &job_file()).expect("write");
    drop(made);
    assert!(is_taken(), "once the job was let go");
}

#[test]
fn large_output_is_gone_at_once_and_its_space_in_slices() {
    let (state, dirs) = dirs();
    let id = JobId::random();
    let folder = state.path().join("jobs").join(id.to_string());
    fs::create_dir(&folder).expect("mkdir");
    let file = File::create(folder.join(STDOUT_FILE)).expect("create");
    file.set_len(100 << 20).expect("length");
    dirs.drop_output(id).expect("drop");
    assert!(!folder.exists());
    assert_eq!(file.metadata().expect("stat").len(), 100 << 20);
    let mut turns = 0;
    while dirs.next_shrink().is_some() {
        dirs.shrink();
        turns += 1;
    }
    assert!(turns > 3, "{turns}");
}

#[test]
fn a_newer_format_is_not_taken_over() {
    let (_state, dirs) = dirs();
    let made = dirs.make(JobId::random()).expect("make");
    let mut job = job_file();
    write_job_file(&made, &job).expect("write");
    assert_eq!(read_job_file(&made).expect("read"), job);
    unlinkat(&made, JOB_FILE, AtFlags::empty()).expect("unlink");
    job.format = FORMAT + 1;
    write_job_file(&made, &job).expect("write");
    assert!(read_job_file(&made).is_err());
}
