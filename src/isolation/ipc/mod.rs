//! Messages between the server and the launcher, and how they travel.

mod message;
mod transport;

pub use message::{AbilityStatus, Event, HostAbility, KnownJob, Launch, Order};
pub use transport::{Channel, MAX_MESSAGE_BYTES, TransportError, pair};
