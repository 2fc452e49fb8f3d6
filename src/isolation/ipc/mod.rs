//! Messages between the server and the launcher, and how they travel.

mod message;
mod transport;

pub use message::{AbilityStatus, Event, HostAbility, KnownJob, Launch, Leftover, Order, Origin};
pub use transport::{Channel, MAX_MESSAGE_BYTES, TransportError, pair};
