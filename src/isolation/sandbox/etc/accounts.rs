//! Files of /etc that are the sandbox's own: its accounts and names.

use crate::isolation::layout;
use crate::job::{Identity, SandboxSpec};

/// What root of its own namespace needs in order to install packages and to become another user in it.
pub(super) const FOR_ROOT: [(&str, &str); 2] = [
    // The sandbox has the host's programs but not its list of packages, so no dependency is ever fulfilled.
    ("dpkg/dpkg.cfg.d/sandbox", "force-depends\n"),
    // There are no passwords: who may change users is decided by capabilities alone.
    (
        "pam.d/other",
        "auth required pam_permit.so\naccount required pam_permit.so\npassword required pam_deny.so\nsession required pam_permit.so\n",
    ),
];

pub(super) fn of(spec: &SandboxSpec) -> [(&'static str, String); 4] {
    let (user, id, home) = (layout::USER, layout::USER_ID, layout::WORKSPACE);
    let job = match spec.identity {
        Identity::Unprivileged => (
            format!("{user}:x:{id}:{id}::{home}:/bin/sh\n"),
            format!("{user}:x:{id}:\n"),
        ),
        Identity::Root => (system_users(), system_groups()),
    };
    [
        (
            "passwd",
            format!(
                "root:x:0:0:root:/root:/bin/sh\n{}nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
                job.0
            ),
        ),
        ("group", format!("root:x:0:\n{}nogroup:x:65534:\n", job.1)),
        (
            "hosts",
            format!(
                "127.0.0.1 localhost {0}\n::1 localhost ip6-localhost\n",
                spec.hostname
            ),
        ),
        ("hostname", format!("{}\n", spec.hostname)),
    ]
}

/// Debian's static accounts, which packages expect; see base-passwd.
fn system_users() -> String {
    let users = [
        ("daemon", 1, "/usr/sbin"),
        ("bin", 2, "/bin"),
        ("sys", 3, "/dev"),
        ("man", 6, "/var/cache/man"),
        ("mail", 8, "/var/mail"),
        ("www-data", 33, "/var/www"),
        ("backup", 34, "/var/backups"),
    ];
    users
        .map(|(name, id, home)| format!("{name}:x:{id}:{id}:{name}:{home}:/usr/sbin/nologin\n"))
        .concat()
}

fn system_groups() -> String {
    let groups = [
        ("daemon", 1),
        ("bin", 2),
        ("sys", 3),
        ("adm", 4),
        ("tty", 5),
        ("disk", 6),
        ("mail", 8),
        ("man", 12),
        ("sudo", 27),
        ("www-data", 33),
        ("backup", 34),
        ("shadow", 42),
        ("utmp", 43),
        ("staff", 50),
        ("users", 100),
    ];
    groups.map(|(name, id)| format!("{name}:x:{id}:\n")).concat()
}
