//! The BPF object under test.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

/// The object in the file that the environment variable `LYNCWALL_BPF_OBJECT` names, else the one that the agent
/// carries. With the variable, an object with a planted mistake can be put through the tests, which must find it.
///
/// # Panics
/// Where the file cannot be read, or the tests were built without an object; the message says what to do.
pub fn object() -> &'static [u8] {
    static NAMED: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let read = || {
        let path = PathBuf::from(env::var_os("LYNCWALL_BPF_OBJECT")?);
        let bytes = fs::read(&path);
        Some(bytes.unwrap_or_else(|error| panic!("LYNCWALL_BPF_OBJECT names {}: {error}", path.display())))
    };
    match NAMED.get_or_init(read) {
        Some(bytes) => bytes,
        None => lyncwall::object::require().expect("the tests are built with the BPF object"),
    }
}
