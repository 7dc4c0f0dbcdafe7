//! `caxton acl`: checks ACL messages and converts them from one form to another, without a router.
//!
//! Exit status: 0 if every message was read, or there is none; 1 if a message was malformed, or standard output cannot
//! be written; 2 if the arguments or the file cannot be used.

mod check;
mod convert;
mod diagnostic;
mod form;

use std::path::PathBuf;
use std::process::ExitCode;

use caxton_router::config::Preset;
use clap::{Args, Subcommand};

use self::form::Form;
use super::input::Source;
use super::settings::Settings;

/// Arguments of `caxton acl`.
#[derive(Debug, Args)]
pub struct AclArguments {
    #[command(subcommand)]
    verb: AclVerb,
}

#[derive(Debug, Subcommand)]
enum AclVerb {
    /// Report what is wrong with each malformed message, and where
    #[command(after_help = EXIT_STATUS)]
    Check(CheckArguments),
    /// Convert messages to another form
    #[command(after_help = EXIT_STATUS)]
    Convert(ConvertArguments),
}

const EXIT_STATUS: &str = "\
Exit status: 0 if every message was read, also if there are none; 1 if one was malformed; 2 if the arguments or the file \
cannot be used.";

/// Arguments of `caxton acl check`.
#[derive(Debug, Args)]
struct CheckArguments {
    /// The file with the messages; - is the standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// The form of the messages; by default recognised from the file
    #[arg(long)]
    form: Option<Form>,
    /// Print one JSON object per line for each malformed message, and one with the summary
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Arguments of `caxton acl convert`.
#[derive(Debug, Args)]
struct ConvertArguments {
    /// The file with the messages; - is the standard input
    #[arg(value_name = "FILE|-", default_value = "-")]
    file: PathBuf,
    /// The form of the messages; by default recognised from the file
    #[arg(long)]
    from: Option<Form>,
    /// The form to convert them to
    #[arg(long)]
    to: Form,
    #[command(flatten)]
    settings: Settings,
}

/// Runs `caxton acl`.
pub fn run(arguments: &AclArguments) -> ExitCode {
    let (file, form, settings) = match &arguments.verb {
        AclVerb::Check(arguments) => {
            (&arguments.file, arguments.form.map(|form| ("--form", form)), &arguments.settings)
        }
        AclVerb::Convert(arguments) => {
            (&arguments.file, arguments.from.map(|form| ("--from", form)), &arguments.settings)
        }
    };
    let option = if let AclVerb::Check(_) = arguments.verb { "--form" } else { "--from" };
    let read = Source::read(file).and_then(|source| {
        let form = match form {
            Some((_, form)) => form,
            None => Form::of_source(&source).ok_or_else(|| {
                let known = Form::ALL.map(Form::name).join(", ");
                format!("{}: cannot tell the form of the messages; set it with {option}: {known}", source.name)
            })?,
        };
        Ok((source, form))
    });
    let read = read.and_then(|(source, form)| Ok((source, form, settings.load(Preset::Development)?.message)));
    let (source, form, how) = match read {
        Ok(read) => read,
        Err(complaint) => return super::refuse(&complaint),
    };
    let finished = match &arguments.verb {
        AclVerb::Check(arguments) => check::check(&source, form, how.reading, arguments.json),
        AclVerb::Convert(arguments) => convert::convert(&source, form, arguments.to, &how),
    };
    match finished {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => super::printing_failed(&error),
    }
}
