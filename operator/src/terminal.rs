//! Whoever sits there, or a pipe.

use std::io::{self, BufRead, Write};

use dirless_program::Secret;

/// A person who can be asked, and standard input.
pub trait Terminal {
    /// Whether somebody can be asked.
    fn is_there(&self) -> bool;
    /// Asks for one line without showing it.
    ///
    /// # Errors
    /// When there is nobody or the line cannot be read.
    fn ask(&mut self, prompt: &str) -> io::Result<Secret>;
    /// Asks a question that only "yes" confirms.
    ///
    /// # Errors
    /// When there is nobody.
    fn confirm(&mut self, question: &str) -> io::Result<bool>;
    /// All of standard input; none when there is nothing in it.
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

    fn ask(&mut self, prompt: &str) -> io::Result<Secret> {
        rpassword::prompt_password(prompt).map(Secret::new)
    }

    fn confirm(&mut self, question: &str) -> io::Result<bool> {
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
