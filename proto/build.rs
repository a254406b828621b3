//! Generates Rust from the `.proto` files with protox, so that no `protoc` is needed.

use std::{env, fs, io, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = proto_files("isthmus")?;
    for file in &files {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    println!("cargo::rerun-if-changed=isthmus");
    let descriptors = protox::Compiler::new(["."])?
        .include_source_info(true)
        .include_imports(true)
        .open_files(&files)?
        .file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Reflection serves the public package alone, without comments and without the nodes' own services.
    let mut public = descriptors.clone();
    public.file.retain(|file| !file.package().starts_with("isthmus.internal"));
    for file in &mut public.file {
        file.source_code_info = None;
    }
    fs::write(out.join("isthmus_v1.bin"), public.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .compile_well_known_types(false)
        .compile_fds(descriptors)?;
    Ok(())
}

/// All `.proto` files under `root`, sorted, so that the generated code never depends on directory order.
fn proto_files(root: &str) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::from(root)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "proto") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
