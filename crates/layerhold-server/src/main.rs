//! The program `layerhold`.

use std::process::ExitCode;

fn main() -> ExitCode {
    layerhold_server::cli::main()
}
