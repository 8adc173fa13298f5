//! Secrets from a file, from standard input, or from a prompt that does not show them; never from
//! the command line.

use std::io;
use std::path::Path;

use dirless_program::Secret;

use super::{EnrollError, input_error};

/// Longest secret, in bytes.
const LONGEST: u64 = 64 * 1024;

/// Where a person sits, or a pipe.
pub trait Terminal {
    /// Whether somebody can be asked.
    fn is_there(&self) -> bool;
    /// Asks for one line without showing it.
    ///
    /// # Errors
    /// When there is nobody or the line cannot be read.
    fn ask(&mut self, prompt: &str) -> io::Result<String>;
    /// Asks a question that only "yes" confirms.
    ///
    /// # Errors
    /// When there is nobody.
    fn confirm(&mut self, question: &str) -> io::Result<bool>;
    /// All of standard input.
    ///
    /// # Errors
    /// When it cannot be read.
    fn standard_input(&mut self) -> io::Result<Option<Secret>>;
}

/// The real one.
#[derive(Debug, Default)]
pub struct SystemTerminal;

impl Terminal for SystemTerminal {
    fn is_there(&self) -> bool {
        std::fs::File::open("/dev/tty").is_ok()
    }

    fn ask(&mut self, prompt: &str) -> io::Result<String> {
        rpassword::prompt_password(prompt)
    }

    fn confirm(&mut self, question: &str) -> io::Result<bool> {
        use std::io::{BufRead, Write};
        let mut tty = std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        write!(tty, "{question} [yes/no] ")?;
        tty.flush()?;
        let mut line = String::new();
        io::BufReader::new(tty).read_line(&mut line)?;
        Ok(line.trim() == "yes")
    }

    fn standard_input(&mut self) -> io::Result<Option<Secret>> {
        Secret::from_reader(io::stdin())
    }
}

/// Reads one secret as the operator said: `what` names it in the prompt, `option` in errors.
///
/// # Errors
/// When it is not there, empty or not text.
pub(crate) fn secret(
    what: &str,
    option: &str,
    file: Option<&Path>,
    terminal: &mut dyn Terminal,
) -> Result<Secret, EnrollError> {
    let found = match file {
        Some(path) if path.as_os_str() == "-" => terminal
            .standard_input()
            .map_err(|error| input_error(option, format!("standard input: {error}")))?,
        Some(path) => from_file(path).map_err(|error| input_error(option, format!("{}: {error}", path.display())))?,
        None if terminal.is_there() => {
            let line = terminal
                .ask(&format!("{what}: "))
                .map_err(|error| input_error(option, error))?;
            Secret::from_reader(line.as_bytes()).map_err(|error| input_error(option, error))?
        }
        None => {
            return Err(input_error(
                option,
                "is needed, since there is no terminal to ask on: give FILE, or - for standard input",
            ));
        }
    };
    found.ok_or_else(|| input_error(option, "holds nothing"))
}

/// The file may be anywhere and of any mode (a download, a mounted volume): it is only read here.
fn from_file(path: &Path) -> io::Result<Option<Secret>> {
    use std::io::Read;
    Secret::from_reader(std::fs::File::open(path)?.take(LONGEST))
}
