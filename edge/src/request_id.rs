//! The id that follows a request through edge, native service and queue.

use shared::{headers, ids};
use wasm_bindgen::JsCast;
use worker::Headers;
use worker::js_sys::{Function, Reflect, global};

use crate::answer;

/// The caller's own id where it is a usable one, else Cloudflare's ray id, else a new one.
pub(crate) fn of(map: &Headers) -> String {
    choose(answer::get(map, headers::REQUEST_ID), || answer::get(map, "cf-ray"), random_uuid)
}

fn choose(
    sent: Option<String>,
    ray: impl FnOnce() -> Option<String>,
    fresh: impl FnOnce() -> Option<String>,
) -> String {
    let usable = |id: &String| ids::is_id(id);
    sent.filter(usable)
        .or_else(|| ray().filter(usable))
        .or_else(fresh)
        // Only a runtime without `crypto` gets here; a request is still better answered than refused.
        .unwrap_or_else(|| "unknown".to_owned())
}

/// By reflection: the `worker` crate does not wrap `crypto.randomUUID`, and the `uuid` crate would bring its own
/// source of randomness into the wasm.
fn random_uuid() -> Option<String> {
    let crypto = Reflect::get(&global(), &"crypto".into()).ok()?;
    let make = Reflect::get(&crypto, &"randomUUID".into()).ok()?.dyn_into::<Function>().ok()?;
    make.call0(&crypto).ok()?.as_string()
}

#[cfg(test)]
mod tests {
    use super::choose;

    #[test]
    fn the_first_usable_id_is_taken() {
        let some = |id: &str| Some(id.to_owned());
        assert_eq!(choose(some("caller-1"), || some("ray"), || some("new")), "caller-1");
        assert_eq!(choose(some("two words"), || some("ray"), || some("new")), "ray");
        assert_eq!(choose(None, || some(""), || some("new")), "new");
        assert_eq!(choose(None, || None, || None), "unknown");
    }
}
