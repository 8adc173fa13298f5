//! Gives the shared object the name under which glibc looks for a service called `dirless`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libnss_dirless.so.2");
    // Rust's own linker keeps the unwinder's personality routine, and with it all of panicking, for the
    // unwind tables of functions it has thrown away; GNU ld keeps it only for functions that remain.
    println!("cargo:rustc-cdylib-link-arg=-fuse-ld=bfd");
}
