//! The commands that plugins may use, with the places of their keys. What is not in the table does not reach the server.
//!
//! A command is here when all keys that it can touch are known from its arguments, and when it neither waits, nor looks at other
//! keys than the plugin's, nor changes the server or the connection.

use std::ops::Range;

/// Where keys are among the arguments. The command's name is argument 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// Nowhere.
    None,
    /// Argument 1.
    First,
    /// Arguments 1 and 2.
    FirstTwo,
    /// Argument 2, behind a subcommand.
    Second,
    /// All arguments.
    All,
    /// Arguments 1, 3, 5 and so on: keys and values in turn.
    EveryOther,
    /// This argument says how many keys follow it.
    Counted(usize),
    /// The first half of what follows the word STREAMS.
    Streams,
    /// Argument 1 is no key but a channel, and must be `changes`.
    Channel,
}

/// What is done with the answer before the guest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing; it is short whatever is stored.
    Short,
    /// Nothing; it can be as large as what is stored.
    Large,
    /// Pairs whose first is a key: the prefix is taken off.
    Streams,
    /// A pair whose first is a key: the prefix is taken off.
    Popped,
    /// Only some lines of it are handed on.
    Info,
}

/// One command.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) keys: Keys,
    pub(super) answer: Answer,
}

const fn short(name: &'static str, keys: Keys) -> Spec {
    Spec { name, keys, answer: Answer::Short }
}

const fn large(name: &'static str, keys: Keys) -> Spec {
    Spec { name, keys, answer: Answer::Large }
}

/// In the order of names, for the search.
#[rustfmt::skip]
const TABLE: [Spec; 135] = [
    short("APPEND", Keys::First),
    short("BITCOUNT", Keys::First),
    short("BITPOS", Keys::First),
    short("COPY", Keys::FirstTwo),
    short("DECR", Keys::First),
    short("DECRBY", Keys::First),
    short("DEL", Keys::All),
    short("EXISTS", Keys::All),
    short("EXPIRE", Keys::First),
    short("EXPIREAT", Keys::First),
    short("EXPIRETIME", Keys::First),
    large("GET", Keys::First),
    short("GETBIT", Keys::First),
    large("GETDEL", Keys::First),
    large("GETEX", Keys::First),
    large("GETRANGE", Keys::First),
    large("GETSET", Keys::First),
    short("HDEL", Keys::First),
    short("HEXISTS", Keys::First),
    large("HGET", Keys::First),
    large("HGETALL", Keys::First),
    short("HINCRBY", Keys::First),
    short("HINCRBYFLOAT", Keys::First),
    large("HKEYS", Keys::First),
    short("HLEN", Keys::First),
    large("HMGET", Keys::First),
    short("HMSET", Keys::First),
    large("HRANDFIELD", Keys::First),
    large("HSCAN", Keys::First),
    short("HSET", Keys::First),
    short("HSETNX", Keys::First),
    short("HSTRLEN", Keys::First),
    large("HVALS", Keys::First),
    short("INCR", Keys::First),
    short("INCRBY", Keys::First),
    short("INCRBYFLOAT", Keys::First),
    Spec { name: "INFO", keys: Keys::None, answer: Answer::Info },
    large("LINDEX", Keys::First),
    short("LINSERT", Keys::First),
    short("LLEN", Keys::First),
    large("LMOVE", Keys::FirstTwo),
    Spec { name: "LMPOP", keys: Keys::Counted(1), answer: Answer::Popped },
    large("LPOP", Keys::First),
    large("LPOS", Keys::First),
    short("LPUSH", Keys::First),
    short("LPUSHX", Keys::First),
    large("LRANGE", Keys::First),
    short("LREM", Keys::First),
    short("LSET", Keys::First),
    short("LTRIM", Keys::First),
    short("MEMORY", Keys::Second),
    large("MGET", Keys::All),
    short("MSET", Keys::EveryOther),
    short("MSETNX", Keys::EveryOther),
    short("OBJECT", Keys::Second),
    short("PERSIST", Keys::First),
    short("PEXPIRE", Keys::First),
    short("PEXPIREAT", Keys::First),
    short("PEXPIRETIME", Keys::First),
    large("PING", Keys::None),
    short("PSETEX", Keys::First),
    short("PTTL", Keys::First),
    short("PUBLISH", Keys::Channel),
    short("RENAME", Keys::FirstTwo),
    short("RENAMENX", Keys::FirstTwo),
    large("RPOP", Keys::First),
    large("RPOPLPUSH", Keys::FirstTwo),
    short("RPUSH", Keys::First),
    short("RPUSHX", Keys::First),
    short("SADD", Keys::First),
    short("SCARD", Keys::First),
    large("SDIFF", Keys::All),
    short("SDIFFSTORE", Keys::All),
    short("SET", Keys::First),
    short("SETBIT", Keys::First),
    short("SETEX", Keys::First),
    short("SETNX", Keys::First),
    short("SETRANGE", Keys::First),
    large("SINTER", Keys::All),
    short("SINTERCARD", Keys::Counted(1)),
    short("SINTERSTORE", Keys::All),
    short("SISMEMBER", Keys::First),
    large("SMEMBERS", Keys::First),
    large("SMISMEMBER", Keys::First),
    short("SMOVE", Keys::FirstTwo),
    large("SPOP", Keys::First),
    large("SRANDMEMBER", Keys::First),
    short("SREM", Keys::First),
    large("SSCAN", Keys::First),
    short("STRLEN", Keys::First),
    large("SUNION", Keys::All),
    short("SUNIONSTORE", Keys::All),
    short("TIME", Keys::None),
    short("TOUCH", Keys::All),
    short("TTL", Keys::First),
    short("TYPE", Keys::First),
    short("UNLINK", Keys::All),
    short("XADD", Keys::First),
    short("XDEL", Keys::First),
    large("XINFO", Keys::Second),
    short("XLEN", Keys::First),
    large("XRANGE", Keys::First),
    Spec { name: "XREAD", keys: Keys::Streams, answer: Answer::Streams },
    large("XREVRANGE", Keys::First),
    short("XSETID", Keys::First),
    short("XTRIM", Keys::First),
    short("ZADD", Keys::First),
    short("ZCARD", Keys::First),
    short("ZCOUNT", Keys::First),
    large("ZDIFF", Keys::Counted(1)),
    short("ZINCRBY", Keys::First),
    large("ZINTER", Keys::Counted(1)),
    short("ZINTERCARD", Keys::Counted(1)),
    short("ZLEXCOUNT", Keys::First),
    Spec { name: "ZMPOP", keys: Keys::Counted(1), answer: Answer::Popped },
    large("ZMSCORE", Keys::First),
    large("ZPOPMAX", Keys::First),
    large("ZPOPMIN", Keys::First),
    large("ZRANDMEMBER", Keys::First),
    large("ZRANGE", Keys::First),
    large("ZRANGEBYLEX", Keys::First),
    large("ZRANGEBYSCORE", Keys::First),
    short("ZRANGESTORE", Keys::FirstTwo),
    short("ZRANK", Keys::First),
    short("ZREM", Keys::First),
    short("ZREMRANGEBYLEX", Keys::First),
    short("ZREMRANGEBYRANK", Keys::First),
    short("ZREMRANGEBYSCORE", Keys::First),
    large("ZREVRANGE", Keys::First),
    large("ZREVRANGEBYLEX", Keys::First),
    large("ZREVRANGEBYSCORE", Keys::First),
    short("ZREVRANK", Keys::First),
    large("ZSCAN", Keys::First),
    short("ZSCORE", Keys::First),
    large("ZUNION", Keys::Counted(1)),
];

/// Names that people may try, and what to do instead.
const INSTEAD: [(&str, &str); 12] = [
    ("KEYS", "use `scan`"),
    ("SCAN", "use the function `scan`"),
    ("EVAL", "use `prepare` and `invoke`"),
    ("EVALSHA", "use `prepare` and `invoke`"),
    ("SCRIPT", "use `prepare` and `invoke`"),
    ("FUNCTION", "use `prepare` and `invoke`"),
    ("FCALL", "use `prepare` and `invoke`"),
    ("MULTI", "run the commands with `transaction`"),
    ("EXEC", "run the commands with `transaction`"),
    ("SUBSCRIBE", "the host listens to `changes` for the plugin"),
    ("BLPOP", "no command may wait; the host wakes whoever waits for `changes`"),
    ("WATCH", "use a script"),
];

/// The longest name, to look a name up without memory of its own.
const NAME_BYTES: usize = 24;

/// The names of all commands that plugins may use.
pub fn allowed() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|spec| spec.name)
}

/// The command of this name, in whatever case. The error is a sentence.
pub(super) fn find(name: &[u8]) -> Result<&'static Spec, String> {
    let mut upper = [0; NAME_BYTES];
    let known = upper.get_mut(..name.len()).and_then(|upper| {
        upper.copy_from_slice(name);
        upper.make_ascii_uppercase();
        let upper = std::str::from_utf8(upper).ok()?;
        TABLE.binary_search_by(|spec| spec.name.cmp(upper)).ok()
    });
    known.map(|at| &TABLE[at]).ok_or_else(|| {
        let shown: String = String::from_utf8_lossy(name).chars().take(NAME_BYTES).collect();
        let hint = INSTEAD.iter().find(|(other, _)| other.eq_ignore_ascii_case(&shown));
        match hint {
            Some((name, hint)) => format!("the command `{name}` is not offered: {hint}"),
            None => format!("the command `{}` is not offered", shown.escape_debug()),
        }
    })
}

/// Keys of one command: a range of arguments, in which each step is a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    range: Range<usize>,
    step: usize,
}

impl Places {
    fn new(range: Range<usize>) -> Self {
        Self { range, step: 1 }
    }

    /// Whether this argument is a key.
    pub(super) fn contains(&self, index: usize) -> bool {
        self.range.contains(&index) && (index - self.range.start).is_multiple_of(self.step)
    }
}

impl Spec {
    /// Where the keys are among these arguments (the name included), or why the command is refused as it stands.
    pub(super) fn places(&self, arguments: &[&[u8]]) -> Result<Places, String> {
        self.options(arguments)?;
        let count = arguments.len();
        Ok(match self.keys {
            Keys::None => Places::new(0..0),
            Keys::First => Places::new(1..2),
            Keys::FirstTwo => Places::new(1..3),
            Keys::Second => Places::new(2..3),
            Keys::All => Places::new(1..count),
            Keys::EveryOther => Places { range: 1..count, step: 2 },
            Keys::Counted(at) => {
                let keys = arguments.get(at).and_then(|text| number(text));
                let keys = keys.filter(|keys| *keys >= 1 && *keys < count - at);
                let keys = keys
                    .ok_or_else(|| format!("`{}`: argument {at} must be the number of keys that follow", self.name))?;
                Places::new(at + 1..at + 1 + keys)
            }
            Keys::Streams => streams(arguments)?,
            Keys::Channel => match arguments.get(1) {
                Some(&b"changes") => Places::new(1..2),
                _ => return Err("a plugin may publish to the channel `changes` only".to_owned()),
            },
        })
    }

    /// What is done with the answer to these arguments.
    pub(super) fn answer(&self, arguments: &[&[u8]]) -> Answer {
        // SET answers the old value when it is asked for.
        let asks = self.name == "SET" && arguments.iter().skip(3).any(|word| word.eq_ignore_ascii_case(b"GET"));
        if asks { Answer::Large } else { self.answer }
    }

    /// Options that reach further than the table says.
    fn options(&self, arguments: &[&[u8]]) -> Result<(), String> {
        let is = |index: usize, words: &[&str]| {
            arguments
                .get(index)
                .is_some_and(|given| words.iter().any(|word| given.eq_ignore_ascii_case(word.as_bytes())))
        };
        let only = |words: &[&str]| {
            if is(1, words) {
                Ok(())
            } else {
                Err(format!("`{}` is offered with {} only", self.name, words.join(", ")))
            }
        };
        match self.name {
            "COPY" if (3..arguments.len()).any(|index| is(index, &["DB"])) => {
                Err("`COPY` to another database is not offered".to_owned())
            }
            "INFO" => {
                let sections = ["SERVER", "CLIENTS", "MEMORY", "PERSISTENCE", "STATS", "REPLICATION"];
                if arguments.len() == 1 || (1..arguments.len()).all(|index| is(index, &sections)) {
                    return Ok(());
                }
                Err(format!("`INFO` is offered with {} only", sections.join(", ")))
            }
            "MEMORY" => only(&["USAGE"]),
            "OBJECT" => only(&["ENCODING", "FREQ", "IDLETIME", "REFCOUNT"]),
            "XINFO" => only(&["STREAM"]),
            _ => Ok(()),
        }
    }
}

fn number(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// XREAD [COUNT n] STREAMS key... id...
fn streams(arguments: &[&[u8]]) -> Result<Places, String> {
    let is = |index: usize, word: &str| {
        arguments.get(index).is_some_and(|given| given.eq_ignore_ascii_case(word.as_bytes()))
    };
    let mut at = 1;
    if is(at, "COUNT") {
        at += 2;
    }
    if is(at, "BLOCK") {
        return Err("`XREAD` with BLOCK is not offered: no command may wait".to_owned());
    }
    let rest = arguments.len().saturating_sub(at + 1);
    if !is(at, "STREAMS") || rest == 0 || !rest.is_multiple_of(2) {
        return Err("`XREAD` must be: [COUNT n] STREAMS key... id..., with an id for each key".to_owned());
    }
    Ok(Places::new(at + 1..at + 1 + rest / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(command: &str) -> Result<Vec<String>, String> {
        let arguments: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let places = find(arguments[0])?.places(&arguments)?;
        let keys = command.split(' ').enumerate().filter(|(index, _)| places.contains(*index));
        Ok(keys.map(|(_, key)| key.to_owned()).collect())
    }

    #[test]
    fn the_table_is_in_order_and_names_fit() {
        assert!(TABLE.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(TABLE.iter().all(|spec| spec.name.len() <= NAME_BYTES));
    }

    #[test]
    fn keys_are_found() {
        for (command, expected) in [
            ("get k", "k"),
            ("GeT k", "k"),
            ("DEL a b c", "a b c"),
            ("MSET a 1 b 2", "a b"),
            ("LMPOP 2 a b LEFT COUNT 2", "a b"),
            ("RENAME a b", "a b"),
            ("COPY a b REPLACE", "a b"),
            ("XREAD STREAMS a b 0 0", "a b"),
            ("XREAD COUNT 5 streams a 0", "a"),
            ("OBJECT ENCODING k", "k"),
            ("PUBLISH changes x", "changes"),
            ("TIME", ""),
        ] {
            assert_eq!(keys(command).unwrap().join(" "), expected, "{command}");
        }
    }

    #[test]
    fn what_reaches_further_is_refused() {
        for command in [
            "KEYS *",
            "FLUSHALL",
            "GETX k",
            "COPY a b DB 1",
            "COPY a b REPLACE db 1",
            "LMPOP 4 a b LEFT",
            "LMPOP 0 a LEFT",
            "LMPOP x a LEFT",
            "SINTERCARD 18446744073709551615 a",
            "XREAD BLOCK 0 STREAMS a 0",
            "XREAD COUNT 1 block 0 STREAMS a 0",
            "XREAD COUNT STREAMS STREAMS a 0 b",
            "XREAD STREAMS a",
            "PUBLISH other x",
            "OBJECT HELP",
            "MEMORY PURGE",
            "XINFO GROUPS k",
            "INFO keyspace",
            "INFO everything",
            "AVERYLONGNAMETHATNOCOMMANDEVERHAS x",
        ] {
            assert!(keys(command).is_err(), "{command}");
        }
    }
}
