use super::*;

#[test]
fn a_missing_controller_is_no_hierarchy() {
    let only_memory = "32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    assert!(matches!(
        CgroupTree::open_in(only_memory, "x"),
        Err(CgroupError::NoHierarchy)
    ));
}

#[test]
fn what_may_be_filled_in_a_moment_is_not_forgotten() {
    let branch = tempfile::tempdir().expect("tempdir");
    let folder = branch.path().join("run-1-0");
    fs::create_dir(&folder).expect("mkdir");
    let tree = CgroupTree {
        unified: Some(branch.path().to_owned()),
        ..CgroupTree::absent()
    };
    tree.remove_forgotten("run-1-0");
    assert!(folder.exists());
    let long_ago = std::time::SystemTime::now() - 2 * ABOUT_TO_FILL;
    let opened = fs::File::open(&folder).expect("open");
    opened.set_modified(long_ago).expect("utimensat");
    tree.remove_forgotten("run-1-0");
    assert!(!folder.exists());
}

#[test]
fn clients_are_told_no_path_of_the_host() {
    let path = || PathBuf::from("/sys/fs/cgroup/secret");
    let source = || std::io::Error::from_raw_os_error(libc::EAGAIN);
    let errors = [
        CgroupError::NoHierarchy,
        CgroupError::NoCpuTime { path: path() },
        CgroupError::System {
            operation: "mkdir",
            path: path(),
            source: source(),
        },
        CgroupError::NotDelegated {
            controller: "memory",
            path: path(),
            source: source(),
        },
    ];
    for error in &errors {
        assert!(!error.without_path().contains('/'), "{error}");
    }
    assert_eq!(
        errors.map(|error| error.errno()),
        [0, 0, libc::EAGAIN, libc::EAGAIN]
    );
}
