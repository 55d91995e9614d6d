//! What the outer test rings and the tasks share.

pub mod apt;
pub mod asterisk;
pub mod dev_vars;
pub mod faults;
pub mod http;
pub mod linphone;
pub mod npm;
pub mod project;
pub mod sipp;
pub mod workerd;
