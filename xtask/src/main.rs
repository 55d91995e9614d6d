//! Tasks of the project, called as `cargo xtask <task>`.
//! One file per task; this one only finds the task and reports its failure.

mod admin;
mod build;
mod demo;
mod export;
mod fleet;
mod import;
mod phone;
mod scan;
mod schema;
mod screen;
mod signal;
mod simulate;
mod size;
mod smoke;
mod soak;
mod storm;
mod test;
mod tools;

use std::env;
use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
Tasks, as `cargo xtask <task>`:

  build [--features F] [--out DIR]   the Worker for wrangler, into build/
  demo [--once]                      starts Dialtone here, plays a phone, and stays up to try things
                                     on; with --once tries its own suggestions, and ends
  export FILE --url URL [--accounts] [--tenant T]
                                     writes all devices, or accounts, into a file: .csv or .ndjson
  import FILE --url URL [--accounts] [--dry-run] [--resume] [--calls N]
                                     saves the devices, or accounts, of a .csv or .ndjson of any
                                     length, in 4 calls at a time if not told otherwise, and says at the
                                     end which lines were refused. Export and import take the token from
                                     DIALTONE_ADMIN_TOKEN
  simulate [--pbxes N] [--accounts N] [--runs N] [--latency MS] [--tenth]
                                     100,000 accounts with a phone each at 100 PBXes that are 20 ms
                                     away, and what runs of the scheduled handler take there: time,
                                     calls, memory. A tenth of that with --tenth
  size                               what a deploy would upload, held against the budget
  smoke URL [--token T]              checks a deployment from outside, with a customer of its own
                                     that it removes again; the token is also taken from
                                     DIALTONE_ADMIN_TOKEN. `--local` in place of the URL starts one
  soak [--minutes N] [--seed S]      plays admins, phones and strangers at random, for 10 minutes
       [--devices N] [--tenth]       if not told otherwise; beside it a stranger counts through
       [--fleet | --scan             100,000 MACs, an Asterisk is looked after 1,000 times over a road
       | --schema | --storm]         on which everything fails, schemathesis holds the API against its
                                     document for 20 minutes, and 3,000 devices are imported, listed,
                                     filtered and exported. Less of all with --tenth: a minute of
                                     schemathesis, 600 devices, a tenth of the rest. One of these alone
                                     with its name; --fleet then has 100,000 devices (1 to 3 hours)
  test                               all checks and tests, as CI runs them
  tools                              what the other tasks need: the wasm target, the npm packages
  help                               this list
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let Some((task, arguments)) = arguments.split_first() else {
        print!("{HELP}");
        return Ok(());
    };
    match task.as_str() {
        "build" => build::run(arguments),
        "demo" => demo::run(arguments),
        "export" => export::run(arguments),
        "import" => import::run(arguments),
        "smoke" => smoke::run(arguments),
        "simulate" => simulate::run(arguments),
        "soak" => soak::run(arguments),
        "size" => no_more(arguments).and_then(|()| size::run()),
        "test" => no_more(arguments).and_then(|()| test::run()),
        "tools" => no_more(arguments).and_then(|()| tools::run()),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        _ => bail!("there is no task `{task}`; `cargo xtask help` lists them"),
    }
}

fn no_more(arguments: &[String]) -> Result<()> {
    match arguments.first() {
        Some(argument) => bail!("`{argument}` is too much; `cargo xtask help` shows what is taken"),
        None => Ok(()),
    }
}
