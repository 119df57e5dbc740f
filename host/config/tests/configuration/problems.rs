//! What an operator gets wrong, and what is said.

use super::support::{Case, file, told};

/// A file and parts of what is said; each is one problem.
#[test]
fn a_wrong_value_is_named_with_its_place_and_what_to_do() {
    let long = format!("log: {}\n", "x".repeat(5_000));
    let many = format!("plugin_dirs: [{}]\n", "a, ".repeat(101));
    let cases: &[(&str, &[&str])] = &[
        ("mode: distribted\n", &["p/compozy.yaml:1:7", "`mode` cannot be `distribted`", "did you mean `distributed`?"]),
        ("drain: 10\n", &["p/compozy.yaml:1:8", "the number 10 without a unit", "`30s`"]),
        ("drain: 10 parsecs\n", &["`drain` is no time", "parsecs"]),
        ("start_timeout: 11m\n", &["from `100ms` to `10m`", "`11m`"]),
        ("start_timeout: 1ms\n", &["from `100ms` to `10m`"]),
        ("retention: { success: 30d }\n", &["`retention.success` is no time", "`d`"]),
        ("retention: { cancelled: 1h }\n", &["unknown key `cancelled` in `retention`", "did you mean `canceled`?"]),
        ("retention: 9999h\n", &["from `1ms` to `8760h`"]),
        ("stores: { lock: redis }\n", &["p/compozy.yaml:1:11", "there is no store `lock`", "did you mean `locks`?"]),
        ("stores: { cache: [redis] }\n", &["`stores.cache` must be a name but is a list"]),
        ("stores: sqlite\n", &["`stores` must be a mapping but is a text", "write `stores: {"]),
        ("engine: temporal\n", &["`engine` must be a mapping", "write `engine: { kind: ... }`"]),
        (
            "engine:\n  temporal:\n    adress: x\n",
            &["compozy.yaml:3:5", "unknown key `adress` in `engine.temporal`", "did you mean `address`?"],
        ),
        ("engine: { address: x }\n", &["unknown key `address` in `engine`", "did you mean `engine.temporal.address`?"]),
        ("engine: { temporal: { managed: yes } }\n", &["must be `true` or `false` but is a text (`yes`)"]),
        ("engine: { temporal: { namespace: \"a b\" } }\n", &["cannot be `a b`", "at most 63 characters"]),
        ("redis: { url: { environment: X } }\n", &["`redis.url` has the unknown place `environment`", "env"]),
        ("redis: { url: { env: A, file: b } }\n", &["must say one place"]),
        ("redis: { url: { env: NOT_SET } }\n", &["`redis.url`", "the environment variable NOT_SET, which is not set"]),
        ("redis: { url: { file: gone } }\n", &["`redis.url`", "the file `p/gone`, which cannot be read: no such file"]),
        ("redis: { url: { file: empty } }\n", &["`p/empty`, which is empty"]),
        ("redis: { url: { file: large } }\n", &["more than 65536 bytes"]),
        ("roles: api\n", &["must be a list of words", "`[a, b]`"]),
        ("roles: [apy]\n", &["`roles` cannot be `apy`", "did you mean `api`?"]),
        ("roles: [api, api]\n", &["`api` twice"]),
        (
            "worker: { concurrency: { files: 0 } }\n",
            &["`worker.concurrency.files` must be an integer from 1 to 10000 (attempts) but is 0"],
        ),
        ("worker: { concurrency: { files: many } }\n", &["is a text (`many`)"]),
        ("listen: 80\n", &["must be an address but is an integer", "put it in quotes"]),
        ("listen: localhost\n", &["no address to listen on: `localhost`", "127.0.0.1:5001"]),
        ("listen: \"a:99999\"\n", &["no address to listen on"]),
        ("rate_limit: { requests: 0 }\n", &["from 1 to 1000000 (requests)"]),
        (&long, &["`log` has 5000 bytes but at most 4096"]),
        (&many, &["has 101 items but at most 100"]),
    ];
    for (text, words) in cases {
        let loaded = file(text).read();
        let said = told(&loaded);
        assert_eq!(loaded.problems.len(), 1, "{text}: {said}");
        assert!(loaded.has_errors());
        for part in *words {
            assert!(said.contains(part), "{text}: `{part}` is missing in {said}");
        }
    }
}

/// Options and variables that are none.
#[test]
fn wrong_names_are_told_with_the_nearest() {
    let environment: &[(&str, &[&str])] = &[
        (
            "COMPOZY_ENGINE_TEMPORAL_ADRESS",
            &["unknown variable `COMPOZY_ENGINE_TEMPORAL_ADRESS`", "`COMPOZY_ENGINE_TEMPORAL_ADDRESS`?"],
        ),
        ("COMPOZY_DRAIM", &["`COMPOZY_DRAIN`?"]),
    ];
    for (name, words) in environment {
        let said = told(&Case { environment: &[(name, "x")], ..Case::default() }.read());
        assert!(said.starts_with("environment: error[CONFIG_UNKNOWN_KEY]") && said.lines().count() == 2, "{said}");
        assert!(words.iter().all(|part| said.contains(part)), "{said}");
    }
    // Somebody else's, and one that holds a secret.
    for name in ["COMPOZY_SERVICE_HOST", "COMPOZY_PORT_5001_TCP", "COMPOZY_PORT", "HOME"] {
        Case { environment: &[(name, "x")], ..Case::default() }.good();
    }
    let used = Case {
        file: "redis: { url: { env: COMPOZY_REDIS_UR } }\n",
        environment: &[("COMPOZY_REDIS_UR", "redis://x")],
        flags: &[],
    };
    used.good();
    let flags: &[(&str, &[&str])] = &[
        ("drian", &["--set: there is no key `drian`", "did you mean `drain`?"]),
        ("engine.address", &["did you mean `engine.temporal.address`?"]),
        ("engine", &["`engine` has keys of its own", "kind"]),
        ("worker.concurrency.*", &["there is no key"]),
        ("plugins.files.grant.sql", &["can only be set in compozy.yaml"]),
        ("zzz", &["`config reference`"]),
    ];
    for (key, words) in flags {
        let loaded = Case { flags: &[(key, "1")], ..Case::default() }.read();
        let said = told(&loaded);
        assert!(loaded.problems.len() == 1 && said.starts_with("command line: error"), "{key}: {said}");
        assert!(words.iter().all(|part| said.contains(part)), "{key}: {said}");
    }
    let twice = told(&Case { flags: &[("drain", "1s"), ("drain", "2s")], ..Case::default() }.read());
    assert!(twice.contains("CONFIG_SET_TWICE") && twice.contains("`drain` twice"), "{twice}");
    let entry = told(&Case { environment: &[("COMPOZY_WORKER_CONCURRENCY", "files")], ..Case::default() }.read());
    assert!(
        entry.contains("COMPOZY_WORKER_CONCURRENCY: `files` names no entry") && entry.contains("`NAME=VALUE`"),
        "{entry}"
    );
}

const TEMPORAL: &str = "engine: { kind: temporal, temporal: { address: \"http://t:7233\" } }\n";
const REDIS: &str = "redis: { url: redis://r }\nstores: { cache: redis, locks: redis, events: redis, config-store: redis, memory-store: redis }\n";

/// What is missing, all at once, with the key, the environment's name, an option and an example.
#[test]
fn distributed_without_addresses_is_one_sentence_for_each() {
    let loaded = file("mode: distributed\n").read();
    let said = told(&loaded);
    assert_eq!(loaded.problems.len(), 2, "{said}");
    for part in [
        "p/compozy.yaml:1:7: error[CONFIG_MISSING]: mode `distributed` needs the address of a Temporal server: set `engine.temporal.address` in compozy.yaml, \
         COMPOZY_ENGINE_TEMPORAL_ADDRESS, or --set engine.temporal.address=..., for example `http://127.0.0.1:7233`",
        "`cache`, `locks`, `events`, `config-store`, `memory-store` are to be kept by the plugin `redis`, but no Redis server is named: set `redis.url` in \
         compozy.yaml, COMPOZY_REDIS_URL, or --redis-url, for example `redis://127.0.0.1:6379`",
    ] {
        let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(&part), "`{part}` is missing in {said}");
    }
    let one = told(&file("engine: { kind: temporal }\n").read());
    assert!(one.contains("the engine `temporal` needs the address") && one.lines().count() == 1, "{one}");
    let s3 = file("blobs: { kind: s3 }\n").read();
    let said = told(&s3);
    assert_eq!(s3.problems.len(), 3, "{said}");
    for key in ["blobs.s3.bucket", "BLOBS_S3_ACCESS_KEY_ID", "blobs.s3.secret_access_key"] {
        assert!(said.contains(key), "{said}");
    }
    // A wrong one is not also missing.
    let wrong = file("engine: { kind: temporal, temporal: { address: nowhere } }\n").read();
    assert_eq!(wrong.problems.len(), 1, "{}", told(&wrong));
}

/// A file and parts of the one sentence.
#[test]
fn contradictions_are_refused() {
    let split = |more: &str| format!("{TEMPORAL}{REDIS}roles: [tool-worker]\n{more}");
    let cases: &[(String, &[&str])] = &[
        ("engine: { kind: temporal, temporal: { address: \"http://t:1\", managed: true } }\n".to_owned(), &["starts a server of its own", "keep one"]),
        ("roles: [api]\n".to_owned(), &["only `api` of the roles", "`embedded` lives in one process", "`engine.kind: temporal`"]),
        ("roles: []\n".to_owned(), &["`roles` is empty", "`tool-worker`"]),
        (split(""), &["this process's data folder, where the others cannot see them", "`blobs.folder`", "`blobs.kind: s3`"]),
        (format!("{TEMPORAL}roles: [api]\nblobs: {{ folder: /shared }}\n"), &["`sqlite` keeps `cache`, `locks`", "`redis`"]),
        (format!("engine: {{ kind: temporal, temporal: {{ managed: true }} }}\n{REDIS}roles: [api]\nblobs: {{ folder: /s }}\n"), &["managed Temporal server is known to no other process"]),
        ("engine: { kind: temporal, temporal: { address: \"https://t:1\", tls: { cert_file: a } } }\n".to_owned(), &["certificate needs its key", "COMPOZY_ENGINE_TEMPORAL_TLS_KEY_FILE"]),
        ("engine: { kind: temporal, temporal: { address: \"https://t:1\", tls: { key_file: a } } }\n".to_owned(), &["key needs its certificate"]),
        ("engine: { kind: temporal, temporal: { address: \"http://t:1\", tls: { ca_file: a } } }\n".to_owned(), &["is for TLS", "`https://`"]),
        ("engine: { kind: temporal, temporal: { address: \"http://t:1\", api_key: hunter2 } }\n".to_owned(), &["without TLS", "`https://`"]),
        ("blobs: { kind: s3, s3: { endpoint: \"http://m\", bucket: b, access_key_id: a, secret_access_key: hunter2 } }\n".to_owned(), &["without TLS", "allow_http"]),
        ("rate_limit: { per: 1s }\n".to_owned(), &["`rate_limit.per` limits nothing", "`rate_limit.requests`"]),
    ];
    for (text, words) in cases {
        let loaded = file(text).read();
        let said = told(&loaded);
        assert!(loaded.problems.len() == 1 && loaded.has_errors(), "{text}: {said}");
        for part in *words {
            assert!(said.contains(part), "{text}: `{part}` is missing in {said}");
        }
        assert!(!said.contains("hunter"), "{said}");
    }
    file(&split("blobs: { folder: /shared }\n")).good();
}

#[test]
fn what_has_no_effect_is_a_warning() {
    for (text, key) in [
        ("engine: { temporal: { address: \"http://t:1\" } }\n", "engine.temporal.address"),
        ("blobs: { s3: { bucket: b } }\n", "blobs.s3.bucket"),
        ("engine: { kind: temporal, temporal: { address: \"http://t:1\", binary: /t } }\n", "engine.temporal.binary"),
    ] {
        let loaded = file(text).read();
        let said = told(&loaded);
        assert!(!loaded.has_errors() && loaded.problems.len() == 1, "{said}");
        assert!(
            said.contains("warning[CONFIG_NOT_USED]") && said.contains(key) && said.contains("no effect"),
            "{said}"
        );
    }
}

#[test]
fn every_problem_is_told_at_once() {
    let loaded = Case {
        file: "mode: distributed\nstores: { cahce: a }\ndrain: soon\n",
        environment: &[("COMPOZY_LISTEN", "x")],
        flags: &[("nothing", "1"), ("roles", "api,apy")],
    }
    .read();
    let said = told(&loaded);
    for part in
        ["`cahce`", "`drain`", "COMPOZY_LISTEN: `listen`", "`nothing`", "`apy`", "engine.temporal.address", "redis.url"]
    {
        assert!(said.contains(part), "`{part}` is missing in {said}");
    }
    assert_eq!(loaded.problems.len(), 7, "{said}");
}

/// Nothing is said of what hangs on a word that cannot be read, or on a file that cannot.
#[test]
fn a_mistake_is_told_once_and_not_what_follows_from_it() {
    for text in [
        "mode: distribted\nengine: { temporal: { address: \"http://t:1\" } }\n",
        "engine: { kind: temporl, temporal: { address: \"http://t:1\" } }\nroles: [api]\n",
        "blobs: { kind: s4, s3: { bucket: b } }\n",
        "roles: [apy]\nworker: { plugins: [a] }\n",
        "mode: distributed\nmode: distributed\n",
        "mode: [\n",
    ] {
        let loaded = file(text).read();
        assert_eq!(loaded.problems.len(), 1, "{text}: {}", told(&loaded));
    }
    let unread = file("mode: [\n").read().settings;
    assert!(unread.was_refused("data_dir"), "nobody knows what the file says");
}

/// Wherever a secret is written wrongly, it is not repeated.
#[test]
fn no_message_shows_a_secret() {
    for text in [
        "redis: { url: [hunter2] }\n",
        "redis: { url: 123456 }\n",
        "engine: { kind: temporal, temporal: { address: \"http://me:hunter2@t\" } }\n",
        "engine: { kind: temporal, temporal: { address: \"me:hunter2@t\" } }\n",
        "engine: { kind: temporal, temporal: { address: \"ftp://me:hunter2@t\" } }\n",
        "blobs: { s3: { secret_access_key: { hunter2: x } } }\n",
    ] {
        let loaded = file(text).read();
        let said = format!("{}{loaded:?}{}", told(&loaded), loaded.settings.to_text());
        let secret = if text.contains("hunter2: x") { "hunter2x" } else { "hunter2" };
        assert!(!loaded.problems.is_empty() && !said.contains(secret) && !said.contains("123456"), "{said}");
    }
    let flag = Case { flags: &[("redis.url", "hunter2"), ("redis.url", "hunter2")], ..Case::default() }.read();
    assert!(!format!("{}{flag:?}", told(&flag)).contains("hunter2"));
}
