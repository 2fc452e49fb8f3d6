//! The launcher's side of its server: starts it, hears its orders, and does those that concern no single job.

use rustix::event::epoll::{self, EventData, EventFlags};

use super::daemon::{Daemon, SERVER};
use super::server_link::ServerEnd;
use crate::config::Reread;
use crate::isolation::doctor;
use crate::isolation::failure::{At, Failure};
use crate::isolation::ipc::{Event, Order, TransportError};
use crate::job::StartStep;
use crate::policy::PolicySet;

impl Daemon {
    pub(super) fn start_server(&mut self) -> Result<(), Failure> {
        match self
            .server
            .fork(&self.config)
            .at(StartStep::Supervisor, "fork the server")?
        {
            ServerEnd::Launcher => {
                let channel = self.server.channel().expect("just forked");
                epoll::add(&self.epoll, channel, EventData::new_u64(SERVER), EventFlags::IN)
                    .at(StartStep::Supervisor, "epoll_ctl")
            }
            ServerEnd::Server(code) => std::process::exit(code),
        }
    }

    pub(super) fn restart_server_if_due(&mut self) {
        if self.server.restart_in().is_some_and(|wait| wait.is_zero()) {
            // For want of processes or descriptors, as a rule: jobs go on, and so does the launcher.
            if let Err(failure) = self.start_server() {
                eprintln!("stockade: launcher: the server cannot be started: {failure}");
                self.server.start_later();
            }
        }
    }

    /// Waits for room in the socket while something is to be sent, and for orders unless the server is behind.
    pub(super) fn rearm_server(&mut self) {
        if let Some(wanted) = self.server.interest_change()
            && let Some(channel) = self.server.channel()
        {
            let _ = epoll::modify(&self.epoll, channel, EventData::new_u64(SERVER), wanted);
        }
    }

    pub(super) fn handle_server(&mut self) {
        // A bounded number, so that jobs get their turn under a flood of orders.
        for _ in 0..32 {
            if self.server.is_behind() {
                return;
            }
            match self.server.receive() {
                Ok(Some(order)) => self.obey(order),
                Ok(None) => return,
                Err(error) => return self.hang_up(matches!(error, TransportError::Closed)),
            }
        }
    }

    /// Does what a server that has ended had ordered before: outcomes that it has recorded are to be kept no longer.
    pub(super) fn hear_out(&mut self) {
        while let Ok(Some(order)) = self.server.receive() {
            self.obey(order);
        }
    }

    /// Ends the connection to a server that has ended it as well, or that is ended.
    pub(super) fn hang_up(&mut self, too: bool) {
        if let Some(channel) = self.server.channel() {
            let _ = epoll::delete(&self.epoll, channel);
        }
        self.server.disconnect(too);
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Launch(launch) => self.launch(*launch),
            Order::Stop { id, order } => self.stop(id, &order),
            Order::Signal { id, signal } => self.signal(id, signal),
            Order::Recorded { id } => self.recorded(id),
            Order::Delete { id } => self.delete(id),
            Order::DropOutput { id } => self.drop_output(id),
            Order::List => self.list(),
            Order::Describe { ids } => self.describe(&ids),
            Order::Reload => self.reload(),
            Order::Reread => {
                let reread = Reread::of(&self.config);
                self.server.send(&Event::Reread(Box::new(reread)));
            }
            Order::Probe => {
                let abilities = doctor::of_worker(self.sandboxes.cgroups().version());
                let ceiling = self.sandboxes.ceiling();
                self.server.send(&Event::Host { abilities, ceiling });
            }
        }
    }

    fn reload(&mut self) {
        let loaded = match &self.config.worker.policies_dir {
            Some(dir) => PolicySet::load(dir),
            None => Ok(PolicySet::built_in()),
        };
        let error = match loaded {
            Ok(policies) => {
                self.policies = policies;
                self.parked.release(&mut self.sandboxes);
                None
            }
            Err(error) => Some(error.to_string()),
        };
        self.server.send(&Event::Reloaded {
            policies: self.policies.names(),
            error,
        });
    }
}
