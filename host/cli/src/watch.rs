//! `executions watch`: the tasks of an execution as they go on, from the host's stream of events.
//!
//! An event only says that something is new; what is drawn is the execution as the host has it at that moment. So a watcher
//! that was away, or whose host was started again, shows the same as one that saw everything.

use std::collections::HashMap;
use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use compozy_server::API;
use compozy_server::client::{self, Followed, ServerEvent, path_part};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::exit::{Exit, Fatal};
use crate::output::result;
use crate::render::printable;
use crate::signals::Signals;
use crate::tree::{self, Changes, Style};

/// The tree is drawn at most this often.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// Durations go on without news.
const REFRESH_EVERY: Duration = Duration::from_millis(500);
/// Between two looks at an execution pass so many times as long as one takes.
const LOOK_SHARE: u32 = 4;
/// A host that is gone has this long to come back.
const AWAY_MAX: Duration = Duration::from_mins(1);
const AWAY_PAUSE: Duration = Duration::from_millis(500);
/// A terminal that does not tell its size.
const SIZE_DEFAULT: (usize, usize) = (100, 24);

/// What the reader of the stream tells.
enum News {
    Event(ServerEvent),
    /// The stream has ended before the execution.
    Lost,
}

/// Draws an execution until it ends, and ends as it does.
pub(crate) async fn watch(address: &str, id: &str) -> Result<Exit, Fatal> {
    let mut signals = Signals::catch()?;
    let mut watcher = Watcher {
        address: address.to_owned(),
        path: format!("{API}/executions/{}", path_part(id)),
        screen: Screen::new(),
        changes: Changes::default(),
        beats: HashMap::new(),
        document: Value::Null,
        look_took: Duration::ZERO,
    };
    tokio::select! {
        ended = watcher.run() => ended,
        // What happens to the execution does not depend on who watches it.
        _signal = signals.next() => Ok(Exit::Interrupted),
    }
}

struct Watcher {
    address: String,
    path: String,
    screen: Screen,
    changes: Changes,
    beats: HashMap<String, String>,
    document: Value,
    /// How long the last look took.
    look_took: Duration,
}

impl Watcher {
    async fn run(&mut self) -> Result<Exit, Fatal> {
        let mut last_id: Option<String> = None;
        let mut away_since: Option<Instant> = None;
        loop {
            match client::follow(&self.address, &format!("{}/events", self.path), last_id.as_deref()).await {
                Ok(Followed::Events(stream)) => {
                    away_since = None;
                    let (mut news, _reader) = read(stream);
                    if let Some(exit) = self.follow(&mut news, &mut last_id).await? {
                        return Ok(exit);
                    }
                }
                Ok(Followed::Refused(answer)) if answer.status != 503 => return Err(refused(&answer.body)),
                Err(error) if last_id.is_none() => return Err(unreachable(&self.address, &error.to_string())),
                Ok(Followed::Refused(_)) | Err(_) => {}
            }
            // The host is busy, or starts again: the stream goes on after the last event.
            let since = *away_since.get_or_insert_with(Instant::now);
            if since.elapsed() > AWAY_MAX {
                return Err(unreachable(&self.address, "it has been away for too long"));
            }
            tokio::time::sleep(AWAY_PAUSE).await;
        }
    }

    /// Draws until the execution ends; `None` when the stream did before.
    async fn follow(
        &mut self,
        news: &mut mpsc::Receiver<News>,
        last_id: &mut Option<String>,
    ) -> Result<Option<Exit>, Fatal> {
        let mut stale = true;
        let mut drawn: Option<Instant> = None;
        loop {
            // A large execution must not keep its host busy with those who watch it.
            let every = if stale { DRAW_EVERY.max(self.look_took * LOOK_SHARE) } else { REFRESH_EVERY };
            let wait = drawn.map_or(Duration::ZERO, |drawn| every.saturating_sub(drawn.elapsed()));
            tokio::select! {
                told = news.recv() => match told {
                    Some(News::Event(event)) => {
                        if event.event == "end" {
                            self.look().await?;
                            self.draw();
                            return Ok(Some(self.exit()));
                        }
                        stale |= self.note(&event);
                        if event.id.is_some() {
                            *last_id = event.id;
                        }
                    }
                    Some(News::Lost) | None => return Ok(None),
                },
                () = tokio::time::sleep(wait) => {
                    if stale && self.look().await.is_err() {
                        return Ok(None);
                    }
                    stale = false;
                    self.draw();
                    drawn = Some(Instant::now());
                }
            }
        }
    }

    /// Answers whether the execution must be looked at again.
    fn note(&mut self, event: &ServerEvent) -> bool {
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        let (Some(task), Some("heartbeat")) = (data["task"].as_str(), data["state"].as_str()) else { return true };
        let detail = data["detail"].as_str().unwrap_or_default();
        if !detail.is_empty() {
            self.beats.insert(task.to_owned(), detail.to_owned());
        }
        false
    }

    async fn look(&mut self) -> Result<(), Fatal> {
        let begun = Instant::now();
        let answer = client::get(&self.address, &self.path).await;
        let answer = answer.map_err(|error| unreachable(&self.address, &error.to_string()))?;
        if answer.status != 200 {
            return Err(refused(&answer.body));
        }
        self.document = answer.body;
        self.look_took = begun.elapsed();
        Ok(())
    }

    fn draw(&mut self) {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let now_ms = u64::try_from(now_ms).unwrap_or(u64::MAX);
        if self.screen.terminal {
            let lines = tree::lines(&self.document, now_ms, &self.beats, self.screen.style());
            self.screen.draw(&lines);
        } else {
            for line in self.changes.of(&self.document, now_ms) {
                result(&line);
            }
        }
    }

    fn exit(&self) -> Exit {
        if self.document["status"] == "SUCCESS" { Exit::Ok } else { Exit::Failed }
    }
}

/// Reads a stream on a task of its own, because a wait for the next event must not be given up half-way.
fn read(mut stream: client::EventStream) -> (mpsc::Receiver<News>, Reader) {
    let (send, receive) = mpsc::channel(64);
    let reader = tokio::spawn(async move {
        loop {
            let news = match stream.next().await {
                Ok(Some(event)) => News::Event(event),
                Ok(None) | Err(_) => News::Lost,
            };
            let last = matches!(news, News::Lost);
            if send.send(news).await.is_err() || last {
                return;
            }
        }
    });
    (receive, Reader(reader))
}

/// Ends the reader with whoever listens to it.
struct Reader(JoinHandle<()>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn unreachable(address: &str, why: &str) -> Fatal {
    Fatal::setup(format!("the host at `{address}` cannot be asked: {why}; name another one with --address"))
}

fn refused(problem: &Value) -> Fatal {
    let text = |name: &str| printable(problem[name].as_str().unwrap_or_default());
    Fatal::new(Exit::Failed, format!("{}: {}", text("code"), text("detail")))
}

/// The place on the terminal where the tree is drawn again and again.
struct Screen {
    terminal: bool,
    colour: bool,
    unicode: bool,
    /// Lines of the last drawing.
    drawn: usize,
}

impl Screen {
    fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default().to_lowercase();
        let unicode = locale.contains("utf-8") || locale.contains("utf8");
        let screen = Self { terminal, colour: terminal && set("NO_COLOR").is_none(), unicode, drawn: 0 };
        if terminal {
            // The cursor would jump about.
            screen.write("\u{1b}[?25l");
        }
        screen
    }

    fn style(&self) -> Style {
        let (width, height) = size();
        // The cursor stands on the line below the last one.
        Style { width, height: height.saturating_sub(1).max(2), colour: self.colour, unicode: self.unicode }
    }

    fn draw(&mut self, lines: &[String]) {
        let up = if self.drawn > 0 { format!("\u{1b}[{}A", self.drawn) } else { String::new() };
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.write(&format!("{up}\r\u{1b}[J{text}"));
        self.drawn = lines.len();
    }

    #[expect(clippy::unused_self, reason = "nobody writes to the terminal but its screen")]
    fn write(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // A terminal that went away is no error of ours.
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.terminal {
            self.write("\u{1b}[?25h\u{1b}[0m");
        }
    }
}

/// Columns and rows.
fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (usize::from(size.ws_col), usize::from(size.ws_row)),
        _ => SIZE_DEFAULT,
    }
}
