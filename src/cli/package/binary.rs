//! The binary to package, and what it needs from the machine that runs it, as its ELF headers say.
//!
//! It is read, never run. A binary that needs more than Azure's images have is packaged with a warning: a package may be
//! meant for another machine, and the images change.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use object::elf::{DT_NEEDED, EM_X86_64, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader as _, SectionHeader as _};
use object::{Endianness, elf};

/// The oldest C library among the Functions images of version 4: Debian 11's. Debian 12's is 2.36
/// (Azure/azure-functions-docker, `host/4/bullseye` and `host/4/bookworm`).
pub const OLDEST_IMAGE: Glibc = Glibc(2, 31);

/// What comes with glibc itself, and with every image.
const OF_THE_SYSTEM: &[&str] =
    &["ld-linux-x86-64.so.2", "libc.so.6", "libdl.so.2", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "librt.so.1"];

/// A binary.
#[derive(Debug)]
pub struct Binary {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it needs.
    pub needs: Needs,
}

impl Binary {
    /// Reads the file.
    ///
    /// # Errors
    /// If it is no file, is empty or cannot be read.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        let bytes = std::fs::read(path)?;
        if bytes.is_empty() {
            return Err(std::io::Error::other("the file is empty"));
        }
        let needs = Needs::of(&bytes);
        Ok(Self { bytes, needs })
    }
}

/// A version of the C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glibc(pub u32, pub u32);

impl Glibc {
    /// Reads a symbol version such as `GLIBC_2.2.5`; the third number tells nothing that matters here.
    fn parse(version: &str) -> Option<Self> {
        let mut numbers = version.strip_prefix("GLIBC_")?.split('.').map(str::parse);
        Some(Self(numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// What a binary needs from the machine that runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needs {
    /// It is no Linux program for x86-64.
    AnotherMachine,
    /// The kernel and nothing else.
    Nothing,
    /// These shared libraries, and the C library in at least this version.
    Libraries {
        /// Their file names.
        libraries: BTreeSet<String>,
        /// The newest version of a symbol it uses; `None` if it uses none by version.
        glibc: Option<Glibc>,
    },
}

impl Needs {
    /// Reads the headers.
    fn of(bytes: &[u8]) -> Self {
        Self::read(bytes).unwrap_or(Self::AnotherMachine)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let header = FileHeader64::<Endianness>::parse(bytes).ok()?;
        let endian = header.endian().ok()?;
        if header.e_machine(endian) != EM_X86_64
            || !matches!(header.e_ident().os_abi, elf::ELFOSABI_SYSV | elf::ELFOSABI_GNU)
        {
            return None;
        }
        let sections = header.sections(endian, bytes).ok()?;
        let mut libraries = BTreeSet::new();
        let mut glibc = None;
        for section in sections.iter() {
            if let Some((entries, strings)) = section.dynamic(endian, bytes).ok()? {
                let strings = sections.strings(endian, bytes, strings).ok()?;
                for entry in entries.iter().filter(|entry| entry.tag(endian) == DT_NEEDED) {
                    let name = entry.string(endian, strings).ok()?;
                    libraries.insert(String::from_utf8_lossy(name).into_owned());
                }
            }
        }
        if let Some((mut needed, strings)) = sections.gnu_verneed(endian, bytes).ok()? {
            let strings = sections.strings(endian, bytes, strings).ok()?;
            while let Some((_, mut versions)) = needed.next().ok()? {
                while let Some(version) = versions.next().ok()? {
                    let name = String::from_utf8_lossy(version.name(endian, strings).ok()?);
                    glibc = glibc.max(Glibc::parse(&name));
                }
            }
        }
        Some(if libraries.is_empty() { Self::Nothing } else { Self::Libraries { libraries, glibc } })
    }

    /// What would keep it from running in Azure.
    pub fn warnings(&self) -> Vec<String> {
        let (libraries, glibc) = match self {
            Self::AnotherMachine => {
                return vec![
                    "it is no Linux program for x86-64, and Azure Functions would not start it; \
                     build it with scripts/package.sh"
                        .to_owned(),
                ];
            }
            Self::Nothing => return Vec::new(),
            Self::Libraries { libraries, glibc } => (libraries, glibc),
        };
        let mut warnings = Vec::new();
        if let Some(glibc) = glibc.filter(|glibc| *glibc > OLDEST_IMAGE) {
            warnings.push(format!(
                "it needs glibc {glibc}, and images of Azure Functions have {OLDEST_IMAGE} (Debian 11) or 2.36 (Debian 12); \
                 build it with scripts/package.sh"
            ));
        }
        let strange: Vec<_> =
            libraries.iter().filter(|name| !OF_THE_SYSTEM.contains(&name.as_str())).map(String::as_str).collect();
        if !strange.is_empty() {
            warnings.push(format!("it needs libraries that the package does not bring: {}", strange.join(", ")));
        }
        warnings
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnotherMachine => write!(f, "is not for Linux on x86-64"),
            Self::Nothing => write!(f, "is static"),
            Self::Libraries { libraries, glibc } => {
                match glibc {
                    Some(glibc) => write!(f, "needs glibc {glibc} or newer")?,
                    None => write!(f, "needs no version of glibc in particular")?,
                }
                let names: Vec<_> = libraries.iter().map(String::as_str).collect();
                write!(f, " ({})", names.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn libraries(names: &[&str], glibc: Option<Glibc>) -> Needs {
        Needs::Libraries { libraries: names.iter().map(|name| (*name).to_owned()).collect(), glibc }
    }

    #[test]
    fn versions_of_glibc_compare_by_number() {
        assert_eq!(Glibc::parse("GLIBC_2.2.5"), Some(Glibc(2, 2)));
        assert!(Glibc::parse("GLIBC_2.9") < Glibc::parse("GLIBC_2.31"));
        for other in ["GLIBC_PRIVATE", "GLIBC_ABI_DT_RELR", "GCC_3.0", "2.31"] {
            assert_eq!(Glibc::parse(other), None, "{other}");
        }
    }

    #[test]
    fn only_what_the_images_lack_is_warned_of() {
        assert!(Needs::Nothing.warnings().is_empty());
        assert!(libraries(&["libc.so.6", "libm.so.6"], Some(OLDEST_IMAGE)).warnings().is_empty());
        let newer = libraries(&["libc.so.6"], Some(Glibc(2, 32))).warnings();
        assert!(newer.len() == 1 && newer[0].contains("it needs glibc 2.32"), "{newer:?}");
        let strange = libraries(&["libc.so.6", "libssl.so.3"], None).warnings();
        assert!(strange.len() == 1 && strange[0].ends_with(": libssl.so.3"), "{strange:?}");
        assert_eq!(Needs::AnotherMachine.warnings().len(), 1);
    }

    #[test]
    fn what_is_no_program_for_azure_is_recognised() {
        for bytes in [&b"#!/bin/sh\nexit 0\n"[..], b"\x7fELF", b"MZ\x90\x00", b"\xcf\xfa\xed\xfe"] {
            assert_eq!(Needs::of(bytes), Needs::AnotherMachine);
        }
    }

    #[test]
    #[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
    fn this_very_program_is_read() {
        let Needs::Libraries { libraries, glibc } = Binary::read(&std::env::current_exe().unwrap()).unwrap().needs
        else {
            panic!("tests are linked dynamically here");
        };
        assert!(libraries.contains("libc.so.6"), "{libraries:?}");
        assert!(glibc >= Some(Glibc(2, 17)), "Rust itself needs as much: {glibc:?}");
    }
}
