//! How the shared object is linked.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The name under which glibc looks for a service called `dirless`.
    link_with("-Wl,-soname,libnss_dirless.so.2");
    // Rust's own linker keeps the unwinder's personality routine, and with it all of panicking, for the
    // unwind tables of functions it has thrown away; GNU ld keeps it only for functions that remain.
    link_with("-fuse-ld=bfd");
    // The standard library asks for the shared unwinder, which every process would then load although
    // nothing here unwinds. This stands in its place and offers the static one, of which nothing stays.
    #[expect(clippy::disallowed_methods, reason = "how cargo talks to build scripts")]
    let folder = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    let instead = Path::new(&folder).join("libgcc_s.so");
    std::fs::write(instead, "INPUT(-lgcc_eh)\n").expect("cargo's OUT_DIR can be written");
    link_with(&format!("-L{}", Path::new(&folder).display()));
}

fn link_with(argument: &str) {
    println!("cargo:rustc-cdylib-link-arg={argument}");
}
