//! The sandboxes of one policy, each made once: jobs that get the same one share it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::Site;
use crate::isolation::layout;
use crate::job::{Enforcement, Mount, Network, SandboxSpec};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Sandboxes {
    template: SandboxSpec,
    #[serde(skip)]
    made: [OnceLock<Made>; 2],
}

#[derive(Debug, Clone)]
struct Made {
    scripts_dir: Option<PathBuf>,
    sandbox: Arc<SandboxSpec>,
}

impl Sandboxes {
    pub(super) fn new(template: SandboxSpec) -> Self {
        Self {
            template,
            made: Default::default(),
        }
    }

    pub(super) const fn limits(&self) -> Enforcement {
        self.template.limits
    }

    /// A worker has one site, so there is one sandbox for each network; for another site it is made anew.
    pub(super) fn get(&self, network: Network, site: &Site) -> Arc<SandboxSpec> {
        let slot = match network {
            Network::None => &self.made[0],
            Network::Host => &self.made[1],
        };
        let made = slot.get_or_init(|| Made {
            scripts_dir: site.scripts_dir.clone(),
            sandbox: Arc::new(self.make(network, site)),
        });
        if made.scripts_dir == site.scripts_dir {
            Arc::clone(&made.sandbox)
        } else {
            Arc::new(self.make(network, site))
        }
    }

    fn make(&self, network: Network, site: &Site) -> SandboxSpec {
        let mut sandbox = self.template.clone();
        sandbox.network = network;
        sandbox.mounts.extend(site.scripts_dir.iter().map(|dir| Mount {
            source: dir.clone(),
            target: PathBuf::from(layout::SCRIPTS),
        }));
        sandbox
    }
}
