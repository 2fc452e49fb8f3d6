//! How results are shown.

mod job_detail;
mod job_json;
mod job_list;
mod job_wire;
mod style;
mod table;
mod text;
mod time;
mod worker_detail;

pub(super) use job_detail::job_detail;
pub(super) use job_json::JobJson;
pub(super) use job_list::{event_line, job_list};
pub(super) use job_wire::exit_status;
pub(super) use style::{Colour, Style};
pub(super) use table::{Cell, Table};
pub(super) use text::printable;
pub(super) use worker_detail::{WorkerView, worker_detail};
