//! Where this process runs: an engine's container takes abilities away, and each has a flag that gives it back.

use std::env;
use std::fs;
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Host,
    Docker,
    Podman,
    Kubernetes,
    /// Of an engine that is not known.
    Container,
}

impl Place {
    pub(super) fn find() -> Self {
        let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let engine = fs::read_to_string("/run/.containerenv").ok();
        Self::judge(
            env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
            engine.is_some() || env::var_os("container").is_some_and(|name| name == "podman"),
            Path::new("/.dockerenv").exists(),
            Path::new("/run/systemd/container").exists() || env::var_os("container").is_some(),
            &cgroup,
        )
    }

    /// The most telling first: a pod's containers have their engine's marks, too.
    fn judge(kubernetes: bool, podman: bool, docker: bool, other: bool, cgroup: &str) -> Self {
        let path_has = |word: &str| cgroup.lines().any(|line| line.contains(word));
        if kubernetes || path_has("kubepods") {
            Self::Kubernetes
        } else if podman || path_has("/libpod") {
            Self::Podman
        } else if docker || path_has("/docker/") || path_has("/docker-") {
            Self::Docker
        } else if other || path_has("/lxc") {
            Self::Container
        } else {
            Self::Host
        }
    }

    pub(super) const fn describe(self) -> &'static str {
        match self {
            Self::Host => "in no container",
            Self::Docker => "in a container of Docker",
            Self::Podman => "in a container of Podman",
            Self::Kubernetes => "in a pod of Kubernetes",
            Self::Container => "in a container",
        }
    }

    /// What gives these capabilities, named without "CAP_", to a container here.
    pub(super) fn give_capabilities(self, names: &[&str]) -> String {
        let flags = || {
            let flags: Vec<String> = names.iter().map(|name| format!("--cap-add={name}")).collect();
            flags.join(" ")
        };
        match self {
            Self::Host => "run as root: sudo stockade ...".to_owned(),
            Self::Docker => format!("docker run {} ...", flags()),
            Self::Podman => format!("podman run {} ...", flags()),
            Self::Kubernetes => format!("securityContext.capabilities.add: [{}]", names.join(", ")),
            Self::Container => format!("give the container the capabilities {}", names.join(", ")),
        }
    }

    /// What lifts the engine's own seccomp filter or AppArmor profile.
    pub(super) const fn unconfine(self) -> &'static str {
        match self {
            Self::Host => "put the program under another security profile",
            Self::Docker => {
                "docker run --security-opt=seccomp=unconfined --security-opt=apparmor=unconfined ..."
            }
            Self::Podman => {
                "podman run --security-opt=seccomp=unconfined --security-opt=apparmor=unconfined ..."
            }
            Self::Kubernetes => {
                "securityContext.seccompProfile.type: Unconfined; securityContext.appArmorProfile.type: Unconfined"
            }
            Self::Container => "lift the container's seccomp filter and AppArmor profile",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Place::{self, Container, Docker, Host, Kubernetes, Podman};

    #[test]
    fn the_most_telling_mark_decides() {
        let docker = "0::/system.slice/docker-4af0.scope\n";
        let in_docker = "12:pids:/docker/4af0\n";
        let pod = "0::/kubepods.slice/kubepods-burstable.slice/x\n";
        for (expected, marks, cgroup) in [
            (
                Host,
                [false; 4],
                "0::/user.slice/user-1000.slice/session-3.scope\n",
            ),
            (Docker, [false; 4], docker),
            (Docker, [false, false, true, false], "0::/\n"),
            (Docker, [false; 4], in_docker),
            (Podman, [false, true, false, true], "0::/\n"),
            (Podman, [false; 4], "0::/user.slice/libpod-1f.scope/container\n"),
            (Kubernetes, [true, false, true, false], "0::/\n"),
            (Kubernetes, [false; 4], pod),
            (Container, [false, false, false, true], "0::/\n"),
        ] {
            let [kubernetes, podman, docker, other] = marks;
            let found = Place::judge(kubernetes, podman, docker, other, cgroup);
            assert_eq!(found, expected, "{marks:?} {cgroup}");
        }
    }

    #[test]
    fn each_place_has_its_own_words_for_a_capability() {
        let words = |place: Place| place.give_capabilities(&["SYS_ADMIN", "KILL"]);
        assert_eq!(words(Docker), "docker run --cap-add=SYS_ADMIN --cap-add=KILL ...");
        assert_eq!(
            words(Kubernetes),
            "securityContext.capabilities.add: [SYS_ADMIN, KILL]"
        );
    }
}
