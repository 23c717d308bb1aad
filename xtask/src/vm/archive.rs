//! The archive that a kernel unpacks as its first root folder: `cpio`, new form, which is what
//! Documentation/driver-api/early-userspace/buffer-format.rst of the kernel describes.
//!
//! Written here and not by `cpio`: no folder has to be laid out, and no device made, that only root may make.
//! It is not compressed: an emulated processor takes longer to unpack it than to read it.

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_755;
const LINK: u32 = 0o120_777;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive in the making.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    folders: Vec<String>,
    entries: u32,
}

impl Archive {
    /// Adds a folder and those above it.
    pub(crate) fn folder(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if path.is_empty() || self.folders.iter().any(|folder| folder == path) {
            return;
        }
        self.parent(path);
        self.folders.push(path.to_owned());
        self.entry(path, FOLDER, (0, 0), &[]);
    }

    /// Adds a file that may be run.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) {
        self.parent(path);
        self.entry(path, FILE, (0, 0), content);
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, to: &str) {
        self.parent(path);
        self.entry(path, LINK, (0, 0), to.as_bytes());
    }

    /// Adds a character device with its major and minor number.
    pub(crate) fn device(&mut self, path: &str, number: (u32, u32)) {
        self.parent(path);
        self.entry(path, CHARACTER_DEVICE, number, &[]);
    }

    /// The whole archive. Another one may follow it.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn parent(&mut self, path: &str) {
        if let Some((parent, _)) = path.trim_start_matches('/').rsplit_once('/') {
            self.folder(parent);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        let path = path.trim_start_matches('/');
        self.entries += 1;
        // Inode, mode, owner, group, links, time, size, the file system's device, the device, name with NUL, check.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            content.len() as u32,
            0,
            0,
            device.0,
            device.1,
            path.len() as u32 + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_its_header_name_and_content_padded_to_four() {
        let mut archive = Archive::default();
        archive.file("init", b"hello");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("07070100000001000081ed"), "{text}");
        // 110 bytes of header, then the name with its NUL, padded to 116.
        assert_eq!(&bytes[110..116], b"init\0\0");
        assert_eq!(&bytes[116..124], b"hello\0\0\0");
        assert_eq!(&bytes[124..130], b"070701");
        assert!(text.contains("TRAILER!!!"));
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_once() {
        let mut archive = Archive::default();
        archive.file("/lib/x86/a.so", b"a");
        archive.link("/lib/b.so", "x86/a.so");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        let at = |name: &str| text.find(name).expect("it is in there");
        assert!(at("lib\0") < at("lib/x86\0") && at("lib/x86\0") < at("lib/x86/a.so"));
        assert_eq!(text.matches("lib\0").count(), 1);
    }
}
