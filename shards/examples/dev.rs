use caxton_shards::sim::*;
fn main() {
    let args: Vec<u64> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let mut total = caxton_shards::account::Account::default();
    let mut fails = 0;
    let t = std::time::Instant::now();
    let mut steps = 0;
    for seed in args[0]..args[1] {
        let o = Options::default();
        if std::env::var_os("V").is_some() {
            eprintln!("seed {seed}");
        }
        match run(seed, &o) {
            Ok(x) => {
                total = total.plus(&x.account);
                steps += x.steps;
            }
            Err(f) => {
                println!("{f}");
                fails += 1;
                if args.len() > 2 {
                    std::panic::set_hook(Box::new(|_| {}));
                    let s = shrink(&f, &o);
                    println!("SHRUNK {} {:?} {} runs", s.failed, s.options, s.runs);
                    let _ = std::panic::take_hook();
                }
                if fails > 3 {
                    break;
                }
            }
        }
    }
    println!("{fails} fails {steps} steps {:?} {total:?}", t.elapsed());
}
