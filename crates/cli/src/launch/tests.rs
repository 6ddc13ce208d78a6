use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    engine: EngineArgs,
}

fn parse(arguments: &[OsString]) -> EngineArgs {
    Line::try_parse_from([OsString::from("x")].iter().chain(arguments)).unwrap().engine
}

#[test]
fn arguments_for_another_process_mean_the_same() {
    let sets: [&[&str]; 4] = [
        &[],
        &["--gpu-memory-utilization", "0.3333333333333333", "--max-model-len", "77"],
        &["--kv-cache-memory-bytes", "3MiB", "--threads", "1", "--isa", "scalar"],
        &[
            "--model=dir with space/-m.gguf",
            "--max-num-seqs=7",
            "--max-num-batched-tokens=99",
            "--block-size=96",
            "--kv-cache-dtype=int8",
            "--enable-prefix-caching=false",
            "--max-num-queued-reqs=0",
            "--scheduling-policy=priority",
            "--lora=sql=a folder/x=1",
            "--lora=poem=poem.gguf",
        ],
    ];
    for set in sets {
        let arguments: Vec<OsString> = set.iter().map(OsString::from).collect();
        let given = parse(&arguments);
        let passed_on = parse(&given.to_arguments());
        assert_eq!(format!("{passed_on:?}"), format!("{given:?}"));
    }
}

#[test]
fn more_blocks_fit_where_keys_and_values_are_smaller() {
    let file = Source::parse("dummy:tiny").unwrap().open().unwrap();
    let blocks = |dtype: &str| {
        let options = ["--kv-cache-memory-bytes", "1MiB", "--kv-cache-dtype", dtype];
        let args = parse(&options.map(OsString::from));
        let adapters = Adapters::open(&[], &file.config, "").unwrap();
        let files = (&file, None, &adapters);
        let Plan { sizes, info, .. } =
            plan(&args, files, String::new(), Connections::NONE).unwrap();
        assert_eq!(info.kv_cache_dtype, dtype);
        assert_eq!(sizes.kv_type.to_string(), dtype);
        info.block_count
    };
    assert_eq!(blocks("f16"), blocks("bf16"));
    // A head of 32 numbers has a scale of four bytes: 36 bytes in place of 64.
    assert_eq!(blocks("int8"), blocks("bf16") * 64 / 36);
}

#[test]
fn connections_count_with_all_their_buffers() {
    let file = Source::parse("dummy:tiny").unwrap().open().unwrap();
    let machine = MachineMemory { total_bytes: 8 << 30, available_bytes: 8 << 30 };
    let buffers = |most, has_tls| {
        let connections = Connections { most, has_tls };
        let asked = Requirements::new(&parse(&[]), &file, machine, connections).unwrap();
        asked.demand.buffer_bytes
    };
    let none = buffers(0, false);
    assert_eq!(buffers(3, false) - none, 3 * (64 << 10));
    assert_eq!(buffers(3, true) - none, 3 * (128 << 10));
}

#[test]
fn what_was_asked_for_stays_where_memory_cuts_the_context() {
    let file = Source::parse("dummy:tiny").unwrap().open().unwrap();
    let lengths = |options: &[&str]| {
        let args = parse(&options.iter().map(OsString::from).collect::<Vec<_>>());
        let adapters = Adapters::open(&[], &file.config, "").unwrap();
        let files = (&file, None, &adapters);
        let sizes = plan(&args, files, String::new(), Connections::NONE).unwrap().sizes;
        (sizes.positions_max, sizes.asked_len)
    };
    let (cut, asked) = lengths(&["--kv-cache-memory-bytes", "100KiB"]);
    assert!(cut < 512, "{cut}");
    assert_eq!(asked, 512);
    assert_eq!(lengths(&["--max-model-len", "32", "--kv-cache-memory-bytes", "1MiB"]), (32, 32));
}

#[test]
fn every_token_of_a_request_counts_and_its_text_where_it_runs() {
    let file = Source::parse("dummy:tiny").unwrap().open().unwrap();
    let machine = MachineMemory { total_bytes: 8 << 30, available_bytes: 8 << 30 };
    let buffers = |len: &str| {
        let options = ["--max-model-len", len, "--max-num-seqs", "3", "--max-num-queued-reqs", "5"];
        let args = parse(&options.map(OsString::from));
        let asked = Requirements::new(&args, &file, machine, Connections::NONE).unwrap();
        asked.demand.buffer_bytes
    };
    assert_eq!(buffers("500") - buffers("400"), 8 * 100 * 4 + 3 * 100 * 32);
}

#[test]
fn every_option_is_passed_on() {
    let mut given = parse(&[]);
    given.max_num_seqs = Some(2);
    given.max_model_len = Some(3);
    given.max_num_queued_reqs = Some(4);
    given.threads = Some(5);
    given.isa = Some(Isa::Scalar);
    given.speculative_ngram = Some(6);
    given.speculative_model = Some("dummy:tiny".to_owned());
    given.quantization = Some(Quantization::Q4_K);
    given.lora = vec!["sql=adapters/sql".parse().unwrap()];
    let mut passed_on: Vec<String> = Vec::new();
    for kv_cache_memory_bytes in [None, Some(1)] {
        let arguments = EngineArgs { kv_cache_memory_bytes, ..given.clone() }.to_arguments();
        passed_on.extend(arguments.iter().map(|argument| argument.display().to_string()));
    }
    let command = <Line as clap::CommandFactory>::command();
    for option in command.get_arguments().filter_map(clap::Arg::get_long) {
        assert!(passed_on.contains(&format!("--{option}")), "--{option} is not passed on");
    }
}
