//! A request and a policy, decided: one fully explicit job, or the rule that forbids it.

use super::compiled::Policy;
use super::file;
use super::{Denial, Resolved, Site};
use crate::isolation::layout;
use crate::job::{InvalidField, JobRequest, JobSpec, Limit, Limits, Network};

impl Policy {
    /// `request` has passed [`JobRequest::check`].
    pub(super) fn resolve(&self, request: &JobRequest, site: &Site) -> Result<Resolved, Denial> {
        let argv = argv(request, site)?;
        self.check_command(&argv[0])?;
        let network = self.network(request)?;
        let spec = JobSpec {
            argv,
            env: self
                .environment
                .words(&request.env)
                .map_err(|(rule, reason)| self.forbidden(rule, reason))?,
            working_dir: working_dir(request),
            script: request.script.clone(),
            files: request.files.clone(),
            stdin: request.stdin.clone(),
            limits: self.limits(request)?,
            stop_signal: request.stop_signal.unwrap_or(self.stop_signal),
            grace_ms: request.grace_ms.unwrap_or(self.grace_ms),
            on_output_limit: request.on_output_limit.unwrap_or(self.on_output_limit),
        };
        Ok(Resolved {
            policy: self.name.clone(),
            policy_hash: self.hash().to_owned(),
            spec,
            sandbox: self.sandboxes.get(network, site),
        })
    }

    fn forbidden(&self, rule: impl Into<String>, reason: impl Into<String>) -> Denial {
        Denial::Forbidden {
            policy: self.name.clone(),
            rule: rule.into(),
            reason: reason.into(),
        }
    }

    fn check_command(&self, command: &str) -> Result<(), Denial> {
        match &self.commands {
            Some(commands) if !commands.iter().any(|pattern| pattern.matches(command)) => {
                Err(self.forbidden("commands", "the command is not one of those listed"))
            }
            _ => Ok(()),
        }
    }

    fn network(&self, request: &JobRequest) -> Result<Network, Denial> {
        match request.network {
            None => Ok(self.network),
            Some(network) if self.allow_network.contains(&network) => Ok(network),
            Some(Network::None) => Err(self.forbidden("sandbox.allow_network", "\"none\" is not listed")),
            Some(Network::Host) => Err(self.forbidden("sandbox.allow_network", "\"host\" is not listed")),
        }
    }

    fn limits(&self, request: &JobRequest) -> Result<Limits, Denial> {
        let mut limits = self.limits;
        for limit in Limit::ALL {
            let Some(asked) = request.limits.get(limit) else {
                continue;
            };
            let most = self.maximum.get(limit);
            if asked > most {
                let written = |value| file::written(limit, value);
                return Err(self.forbidden(
                    format!("maximum.{}", file::key(limit)),
                    format!("{} is more than {}", written(asked), written(most)),
                ));
            }
            limits.set(limit, asked);
        }
        Ok(limits)
    }
}

fn argv(request: &JobRequest, site: &Site) -> Result<Vec<String>, InvalidField> {
    let mut argv = Vec::with_capacity(request.argv.len() + 1 + request.args.len());
    argv.extend_from_slice(&request.argv);
    if request.script.is_some() {
        argv.push(layout::SCRIPT.to_owned());
    }
    if let Some(path) = &request.path {
        if site.scripts_dir.is_none() {
            return Err(InvalidField::new("path", "this worker has no scripts folder"));
        }
        argv.push(format!("{}/{path}", layout::SCRIPTS));
    }
    argv.extend_from_slice(&request.args);
    if argv.is_empty() {
        return Err(InvalidField::new("argv", "no command"));
    }
    Ok(argv)
}

fn working_dir(request: &JobRequest) -> String {
    match request.working_dir.as_deref() {
        None => layout::WORKSPACE.to_owned(),
        Some(dir) if dir.starts_with('/') => dir.to_owned(),
        Some(dir) => format!("{}/{dir}", layout::WORKSPACE),
    }
}
