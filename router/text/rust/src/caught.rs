//! A panic of a crate that reads outside bytes, as an error of one line.
//!
//! The standard hook writes the panic and its stack to stderr before anybody can catch it: a file
//! that is refused would say so in 40 lines. Here the place is kept for the error instead. Panics
//! that nobody catches are reported as ever.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{catch_unwind, set_hook, take_hook, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

thread_local! {
    static CATCHING: Cell<usize> = const { Cell::new(0) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

static HOOK: Once = Once::new();

/// What `f` gives, or its panic's text and place.
pub fn catch<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(install);
    CATCHING.with(|depth| depth.set(depth.get() + 1));
    let result = catch_unwind(AssertUnwindSafe(f));
    CATCHING.with(|depth| depth.set(depth.get() - 1));
    result.map_err(|payload| {
        let place = PLACE.with(RefCell::take);
        let text = text_of(payload);
        if place.is_empty() {
            text
        } else {
            format!("{text} ({place})")
        }
    })
}

fn install() {
    let standard = take_hook();
    set_hook(Box::new(move |info| {
        if CATCHING.with(Cell::get) == 0 {
            standard(info);
        } else {
            PLACE.with(|place| place.replace(place_of(info)));
        }
    }));
}

/// From the crate's folder on: what stands before it is the machine it was built on.
fn place_of(info: &PanicHookInfo<'_>) -> String {
    let Some(location) = info.location() else {
        return String::new();
    };
    let file = location.file();
    let from_the_crate = file
        .rfind("/src/")
        .map_or(file, |end| &file[file[..end].rfind('/').map_or(0, |at| at + 1)..]);
    format!("{from_the_crate}:{}", location.line())
}

fn text_of(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload
            .downcast_ref::<&str>()
            .map_or_else(|| "panic".to_string(), |text| (*text).to_string()),
    }
}
