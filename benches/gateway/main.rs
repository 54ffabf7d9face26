//! The whole gateway, measured: a loopback origin, the real binary with a policy, records and
//! metrics on, a load generator, and the same load without the gateway beside it.
//!
//! `cargo bench --bench gateway -- --help`. How to read the table: `docs/performance.md`.

#![expect(clippy::disallowed_methods, reason = "a load generator dials, and its tasks end with it")]

mod clock;
mod gateway;
mod load;
mod origin;
mod scenario;
mod soak;
mod stop;
mod streams;
mod table;
mod tls;

use clap::Parser;
use gateway::Gateway;
use load::{Lab, Target};
use scenario::Scenario;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use table::Row;

/// What can be asked for.
#[derive(Debug, Parser)]
#[command(name = "gateway")]
#[expect(clippy::struct_excessive_bools, reason = "flags, as typed")]
struct Args {
    /// Only this scenario; may be repeated.
    #[arg(long, value_name = "NAME")]
    scenario: Vec<Scenario>,
    /// How long each scenario is measured, after a second's warm-up.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    seconds: u64,
    /// Instead: every kind of load at once for so long, with memory and open files each minute.
    #[arg(long, value_name = "MINUTES")]
    soak: Option<u64>,
    /// The gateway's worker threads [default: one a core].
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Rules name the executable, so that the process behind each connection is looked up.
    #[arg(long)]
    binaries: bool,
    /// Another build of the gateway.
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_portcullis"))]
    gateway: PathBuf,
    /// Leave the runs without the gateway out.
    #[arg(long)]
    no_direct: bool,
    /// Print the scenarios.
    #[arg(long)]
    list: bool,
    /// What cargo passes; of no meaning.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        for scenario in Scenario::all() {
            println!("{:<16} {}", scenario.name(), scenario.says());
        }
        return ExitCode::SUCCESS;
    }
    load::raise_limits();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let good = runtime.block_on(async {
        let program = args.gateway.clone();
        let choice = gateway::Choice { program, workers: args.workers, binaries: args.binaries };
        let lab = Lab::new(choice).await;
        match args.soak {
            Some(minutes) => soak::run(&lab, minutes).await,
            None => measure(&lab, &args).await,
        }
    });
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the scenarios and prints a row for each as it is done.
async fn measure(lab: &Lab, args: &Args) -> bool {
    println!("{}", lab.describe());
    println!("{}", table::head());
    let asked = |s: &Scenario| args.scenario.is_empty() || args.scenario.contains(s);
    for scenario in Scenario::all().iter().copied().filter(asked) {
        if !args.no_direct && scenario.has_direct() {
            let ran = scenario.run(lab, &Target::Direct, Duration::from_secs(args.seconds)).await;
            println!("{}", Row { scenario, through: "direct", ran: &ran }.line());
        }
        // A gateway of its own: what one scenario leaves behind is not the next one's.
        let gateway = Gateway::start(lab);
        let target = Target::Through(gateway);
        for (name, ran) in scenario.rows(lab, &target, Duration::from_secs(args.seconds)).await {
            println!("{}", Row { scenario, through: name, ran: &ran }.line());
        }
    }
    true
}
