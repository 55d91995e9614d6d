//! Ctrl-C and the other signals that end a program: noted, so that a task can put away what it
//! started. A second one ends the process at once, and the guards of its children end those.

use std::process;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

static ENDED: AtomicBool = AtomicBool::new(false);

/// Notes signals from now on.
pub fn watch() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        let noted = ctrlc::set_handler(|| {
            if ENDED.swap(true, Ordering::SeqCst) {
                // As a shell counts a program that Ctrl-C ended.
                process::exit(130);
            }
        });
        if let Err(error) = noted {
            // Then a signal ends this process at once, which leaves no more than a directory behind.
            eprintln!("cannot note Ctrl-C: {error}");
        }
    });
}

/// Whether somebody wants an end.
pub fn ended() -> bool {
    ENDED.load(Ordering::SeqCst)
}

/// Goes on unless somebody wants an end.
///
/// # Errors
/// If so.
pub fn go_on() -> Result<()> {
    if ended() {
        bail!("stopped by a signal");
    }
    Ok(())
}
