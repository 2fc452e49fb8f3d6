use proptest::prelude::*;

use super::*;

const OLD_FILE: &str = r#"
[grpc_server]
addr = "127.0.0.1:50000"
use_tls = false
crt_file = "server.pem"
key_file = "server.key"

[scheduler]
addr = "127.0.0.1:3000"
"#;

fn read(text: &str) -> Result<Config, ConfigError> {
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::write(file.path(), text).expect("write");
    Config::read(file.path())
}

fn refusal(text: &str) -> String {
    read(text).expect_err("should be refused").to_string()
}

#[test]
fn the_old_file_works_as_it_is() {
    let config = read(OLD_FILE).expect("old file");
    assert_eq!(config.grpc_server.addr, "127.0.0.1:50000");
    assert_eq!(
        config.scheduler.map(|scheduler| scheduler.addr).as_deref(),
        Some("127.0.0.1:3000")
    );
    assert_eq!(config.worker.default_policy, "default");
    assert!(config.source.is_some());
}

#[test]
fn the_documented_file_is_valid_and_shows_the_defaults() {
    let text = include_str!("../../config.toml");
    read(text).expect("config.toml");
    // What it shows as a comment must be valid too, so that removing the # is all that an operator does.
    let uncommented: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config: Config = toml::from_str(&uncommented).expect("with all comments removed");
    let default = Worker::default();
    assert_eq!(config.worker.max_running, default.max_running);
    assert_eq!(config.worker.max_pending, default.max_pending);
    assert_eq!(config.worker.server_uid, default.server_uid);
    assert_eq!(config.worker.shutdown_timeout_s, default.shutdown_timeout_s);
    assert_eq!(config.isolation.first_host_id, Isolation::default().first_host_id);
    assert_eq!(config.log.level, Log::default().level);
}

#[test]
fn an_unknown_key_is_refused_with_line_and_column() {
    let message = refusal("[worker]\nmax_running = 3\nmax_runing = 4\n");
    assert!(message.contains("line 3, column 1"), "{message}");
    assert!(message.contains("max_runing"), "{message}");
}

#[test]
fn a_wrong_type_is_refused_with_line_and_column() {
    let message = refusal("[worker]\nmax_running = \"many\"\n");
    assert!(message.contains("line 2, column 15"), "{message}");
}

#[test]
fn plaintext_beyond_loopback_is_refused_unless_allowed() {
    for addr in ["0.0.0.0:1", "[::]:1", ":1", "192.0.2.1:1"] {
        let text = format!("[grpc_server]\naddr = \"{addr}\"\n");
        assert!(refusal(&text).contains("grpc_server.addr"), "{addr}");
        read(&format!("{text}allow_plaintext = true\n")).expect(addr);
        read(&format!("{text}use_tls = true\n")).expect(addr);
    }
}

#[test]
fn contradictions_are_refused() {
    for (text, field) in [
        ("[grpc_server]\naddr = \"example.org:1\"", "grpc_server.addr"),
        ("[grpc_server]\naddr = \"unix:relative\"", "grpc_server.addr"),
        (
            "[grpc_server]\nclient_ca_file = \"ca.pem\"",
            "grpc_server.client_ca_file",
        ),
        ("[tenants]\noperators = [\"ops\"]", "tenants.operators"),
        (
            "[grpc_server]\nuse_tls = true\nclient_ca_file = \"ca.pem\"\n[tenants]\nfrom = \"none\"\noperators = [\"ops\"]",
            "tenants.operators",
        ),
        (
            "[grpc_server]\nmax_connections = 0",
            "grpc_server.max_connections",
        ),
        ("[worker]\nserver_uid = 0", "worker.server_uid"),
        ("[worker]\nmax_running = 0", "worker.max_running"),
        ("[scheduler]\naddr = \"host\"", "scheduler.addr"),
        (
            "[grpc_server]\naddr = \"unix:/run/s\"\n[scheduler]\naddr = \"h:1\"",
            "scheduler.advertise",
        ),
        (
            "[scheduler]\naddr = \"h:1\"\ncrt_file = \"x\"",
            "scheduler.crt_file",
        ),
        (
            "[scheduler]\naddr = \"h:1\"\nca_file = \"x\"",
            "scheduler.use_tls",
        ),
    ] {
        let message = refusal(text);
        assert!(message.contains(field), "{text}: {message}");
    }
}

#[test]
fn addresses_are_read_in_every_form() {
    for (text, expected) in [
        ("127.0.0.1:50000", "127.0.0.1:50000"),
        ("localhost:80", "127.0.0.1:80"),
        ("[::1]:80", "[::1]:80"),
        (":80", "[::]:80"),
        ("unix:/run/s.sock", "unix:/run/s.sock"),
    ] {
        let parsed: ListenAddr = text.parse().expect(text);
        assert_eq!(parsed.to_string(), expected);
    }
}

const FILE: &str = include_str!("../../config.toml");

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// No text that an operator could write makes the parser panic, and what it accepts is safe.
    #[test]
    fn a_damaged_file_is_an_error_or_a_safe_configuration(
        at in 0..FILE.len(),
        cut in 0..60_usize,
        noise in "[\\[\\]{}\"'=,.#\n0-9a-zA-Z_*/:-]{0,12}",
        uncommented in any::<bool>(),
    ) {
        let text = if uncommented { FILE.replace("\n# ", "\n") } else { FILE.to_owned() };
        let (at, end) = (at.min(text.len()), (at + cut).min(text.len()));
        let bytes = [&text.as_bytes()[..at], noise.as_bytes(), &text.as_bytes()[end..]].concat();
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("config.toml");
        std::fs::write(&path, bytes).expect("write");
        if let Ok(config) = Config::read(&path) {
            prop_assert!(config.worker.server_uid != 0 && config.worker.server_gid != 0);
            prop_assert!(config.worker.max_running > 0);
            let server = &config.grpc_server;
            if let ListenAddr::Tcp(addr) = server.addr.parse().expect("checked") {
                prop_assert!(addr.ip().is_loopback() || server.use_tls || server.allow_plaintext);
            }
        }
    }
}

#[test]
fn ids_of_jobs_are_nobody_elses_and_there_are_enough() {
    let with = |line: &str| format!("[isolation]\n{line}\n");
    let most = u32::MAX - 65_536 - 4096 * 65_536;
    read(&with(&format!("first_host_id = {most}"))).expect("the last that fit");
    for (id, reason) in [
        (0, "root"),
        (most + 1, "too few"),
        (u32::MAX, "too few"),
        (64_901, "server_uid"),
        (64_000, "server_uid"),
    ] {
        let refusal = refusal(&with(&format!("first_host_id = {id}")));
        assert!(
            refusal.contains("isolation.first_host_id") && refusal.contains(reason),
            "{refusal}"
        );
    }
}

#[test]
fn a_cgroup_is_beneath_the_workers_place() {
    for name in ["../x", "a/../../x", "", "/", "a//b", "."] {
        let refusal = refusal(&format!("[isolation]\ncgroup = \"{name}\"\n"));
        assert!(refusal.contains("isolation.cgroup"), "{refusal}");
    }
    read("[isolation]\ncgroup = \"machine/stockade\"\n").expect("nested");
}

#[test]
fn a_folder_of_scripts_that_is_not_there_is_refused() {
    let refusal = refusal("[worker]\nscripts_dir = \"/nonexistent\"\n");
    assert!(refusal.contains("worker.scripts_dir"), "{refusal}");
    read("[worker]\nscripts_dir = \"/usr\"\n").expect("a folder");
}

#[test]
fn relative_folders_are_those_of_the_working_directory() {
    let text = "[worker]\nstate_dir = \"state\"\nscripts_dir = \"src\"\npolicies_dir = \"./policies\"\n";
    let worker = read(text).expect("relative folders").worker;
    let here = std::env::current_dir().expect("a working directory");
    assert_eq!(worker.state_dir, here.join("state"));
    assert_eq!(worker.scripts_dir, Some(here.join("src")));
    assert_eq!(worker.policies_dir, Some(here.join("policies")));
    assert!(refusal("[worker]\nstate_dir = \"\"\n").contains("worker.state_dir"));
}

#[test]
fn a_level_that_is_none_is_refused() {
    let refusal = refusal("[log]\nlevel = \"wran\"\n");
    assert!(
        refusal.contains("log.level") && refusal.contains("wran"),
        "{refusal}"
    );
}

#[test]
fn what_needs_a_restart_is_told_by_reading_again() {
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    let write = |text: &str| std::fs::write(file.path(), text).expect("write");
    write(OLD_FILE);
    let started = Config::read(file.path()).expect("old file");
    let settings = |text: String| {
        write(&text);
        Reread::of(&started).settings
    };
    let told = |level: &str, needs_restart| {
        Ok(Settings {
            log_level: level.to_owned(),
            needs_restart,
        })
    };
    assert_eq!(settings(OLD_FILE.to_owned()), told("info", false));
    let louder = format!("{OLD_FILE}[log]\nlevel = \"debug\"\n");
    assert_eq!(settings(louder), told("debug", false));
    assert_eq!(settings(OLD_FILE.replace("3000", "3001")), told("info", true));
    assert!(settings("nonsense".to_owned()).is_err());
}
