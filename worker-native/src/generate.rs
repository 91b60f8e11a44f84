//! Texts and series made one step after the other by a model that looks at a fixed window.
//!
//! Owns what a request may ask for (`wish`), the window, the choice of the next character
//! (`sample`) and where a text ends (`stop`). All of it is pure: a step is `Run::input`, a row of
//! the model for it, `Run::take`. It runs no model and knows no HTTP: those are `engine`'s and
//! `http`'s. There is no state in the model between two steps, so the steps of all requests are
//! batched by the engine like any other rows.

mod choose;
mod run;
mod sample;
mod stop;
mod window;
mod wish;

pub use choose::{Chosen, Target, model, target};
pub use run::{Finish, Output, Run, Step};
pub use sample::MAX_SEED;
pub use wish::{What, Wish};

use shared::problem::ErrorCode;
use shared::reading::{Fault, MAX_FAULTS, Rejection};

/// The rejection of a body with faults.
fn invalid(task: &str, mut faults: Vec<Fault>) -> Rejection {
    let count = faults.len();
    let mut detail = format!("{count} fault{} for task `{task}`", if count == 1 { "" } else { "s" });
    if count > MAX_FAULTS {
        faults.truncate(MAX_FAULTS);
        detail.push_str(&format!(", the first {MAX_FAULTS} listed"));
    }
    Rejection { code: ErrorCode::InvalidReading, detail, faults }
}
