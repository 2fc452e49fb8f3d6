//! The nodes of /dev: the sandbox's own, or the host's where none can be made.

use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::mount_bind;

use super::parts;
use super::template::Template;
use crate::isolation::failure::{At, Failure};
use crate::job::StartStep;

/// The folder of those that are bound, relative to the template's root.
pub(super) const BOUND: &str = "devices";
/// Told in the receipt where the template could make none of its own.
const SHARED: &str = "devices: the host's own nodes: locks and notices (inotify) on them pass between jobs";

/// A character device of the minimal /dev.
#[derive(Debug)]
struct Device {
    name: &'static str,
    major: u32,
    minor: u32,
}

const DEVICES: [Device; 6] = [
    Device {
        name: "null",
        major: 1,
        minor: 3,
    },
    Device {
        name: "zero",
        major: 1,
        minor: 5,
    },
    Device {
        name: "full",
        major: 1,
        minor: 7,
    },
    Device {
        name: "random",
        major: 1,
        minor: 8,
    },
    Device {
        name: "urandom",
        major: 1,
        minor: 9,
    },
    Device {
        name: "tty",
        major: 5,
        minor: 0,
    },
];

/// Device nodes of the template's own; the host's are bound where this process may not make nodes. Their mounts are not
/// taken in stock as those of the layers are: the kernel has the close of an unused one wait for a grace period.
pub(super) fn make(root: &Path) -> Result<bool, Failure> {
    let mut are_bound = false;
    for device in DEVICES {
        let node = root.join("dev").join(device.name);
        let number = makedev(device.major, device.minor);
        if !are_bound
            && mknodat(
                CWD,
                &node,
                FileType::CharacterDevice,
                Mode::from_raw_mode(0o666),
                number,
            )
            .is_ok()
        {
            continue;
        }
        are_bound = true;
        let tree = parts::detach(&Path::new("/dev").join(device.name))?;
        let holder = format!("{BOUND}/{}", device.name);
        for file in [Path::new(&holder), &node] {
            parts::write_file(file, "").at(StartStep::Rootfs, device.name)?;
        }
        parts::attach(&tree, &holder)?;
    }
    Ok(are_bound)
}

/// Where the template could not make device nodes of its own. Gives that, for the receipt.
pub(super) fn bind(template: &Template) -> Result<Option<String>, Failure> {
    if template.devices_bound {
        for device in DEVICES {
            let source = format!("{}/{}", BOUND, device.name);
            let target = format!("{}/dev/{}", parts::NEW_ROOT, device.name);
            mount_bind(source, target).at(StartStep::Rootfs, device.name)?;
        }
    }
    Ok(shared(template))
}

pub(super) fn shared(template: &Template) -> Option<String> {
    template.devices_bound.then(|| SHARED.to_owned())
}
