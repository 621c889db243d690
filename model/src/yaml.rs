//! From text to a tree of nodes with spans. The part of YAML that a configuration needs and no more: what two readers could take
//! differently (anchors, tags, merge keys, `yes`) is refused. Knows no key of the configuration.

use crate::diagnostics::{Diagnostic, Diagnostics, floor_boundary};
use crate::span::{FileId, Span, Spanned};
use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, ScanError};
use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::ops::Range;

/// Bytes. A configuration of 100,000 routes has about 4 MiB; more than this is not a configuration.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Nesting. The language itself needs 10; `respond: json` may need more. Bounds our recursion over the tree.
pub const DEPTH_MAX: usize = 64;

/// Nodes in one file: 100,000 routes in long form have about a million. Bounds memory: `[a,a,a` costs 50 times its bytes.
pub const NODES_MAX: usize = 4_000_000;

/// Keys up to which a duplicate is looked for by comparing, which beats hashing.
const SMALL_MAPPING: usize = 12;

const IPV6_LIST: &str = "an IPv6 address without quotes is read as a list";

const QUOTE_BRACE: &str = "quote a value that contains `{`, as in \"/orders/{id}\"";

pub type Entry = (Spanned<String>, Node);

#[derive(Debug, Clone)]
pub struct Node {
    pub span: Span,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub enum Kind {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
    /// What was already complained about: decoders pass it over in silence.
    Poisoned,
}

#[derive(Debug, Clone)]
pub struct Scalar {
    pub text: String,
    pub quoted: bool,
    /// It stands where a secret does, and is never printed.
    pub is_hidden: bool,
    /// Present where `${}` put in a value from elsewhere.
    pub origin: Option<Box<Origin>>,
}

/// A scalar as the user wrote it, which may be printed where its text may not.
#[derive(Debug, Clone)]
pub struct Origin {
    pub written: String,
    /// The text, with the braces of what was put in doubled: a value from elsewhere is never read as a template.
    pub braced: String,
}

impl Node {
    /// A text that no file wrote. The empty one is text too, and not nothing.
    pub fn scalar(text: &str) -> Node {
        Node {
            span: Span::none(),
            kind: Kind::Scalar(Scalar { text: text.to_owned(), quoted: text.is_empty(), is_hidden: false, origin: None }),
        }
    }

    pub fn empty_mapping() -> Node {
        Node { span: Span::none(), kind: Kind::Mapping(Vec::new()) }
    }

    /// Nothing was written, or `null`.
    pub fn is_null(&self) -> bool {
        match &self.kind {
            Kind::Scalar(scalar) => scalar.is_null(),
            Kind::Sequence(_) | Kind::Mapping(_) | Kind::Poisoned => false,
        }
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Mapping(entries) => entries.iter().find(|(name, _)| name.value == key).map(|(_, node)| node),
            Kind::Scalar(_) | Kind::Sequence(_) | Kind::Poisoned => None,
        }
    }
}

impl Scalar {
    pub fn is_null(&self) -> bool {
        !self.quoted && self.origin.is_none() && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// What may be printed.
    pub fn shown(&self) -> &str {
        match &self.origin {
            Some(origin) => &origin.written,
            None if self.is_hidden => "***",
            None => &self.text,
        }
    }
}

/// The tree of a text, or `None` where there is none to speak of: then there are diagnostics.
pub fn parse(text: &str, file: FileId, diagnostics: &mut Diagnostics) -> Option<Node> {
    if text.len() > FILE_BYTES_MAX {
        let message = format!("the file is larger than {} MiB", FILE_BYTES_MAX / 1024 / 1024);
        diagnostics
            .push(Diagnostic::error("file-too-large", Span::new(file, 0, 0), message).hint("split it, and `include` the parts"));
        return None;
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.emit_unresolved_aliases = true;
    options.flow_nesting_limit = DEPTH_MAX;
    options.block_nesting_limit = DEPTH_MAX;
    let mut builder = Builder { text, file, diagnostics, stack: Vec::new(), root: None, documents: 0, nodes: 0, read: 0 };
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => {
                if builder.event(event, span).is_break() {
                    return None;
                }
            }
            Err(error) => {
                builder.syntax(&error);
                return None;
            }
        }
    }
    builder.finish()
}

struct Builder<'a> {
    text: &'a str,
    file: FileId,
    diagnostics: &'a mut Diagnostics,
    stack: Vec<Frame>,
    root: Option<Node>,
    documents: usize,
    nodes: usize,
    /// Where what was read last ends.
    read: u32,
}

enum Frame {
    Sequence { start: u32, items: Vec<Node> },
    Mapping { start: u32, entries: Vec<Entry>, key: KeySlot, has_bad_key: bool },
}

enum KeySlot {
    Awaited,
    Key(Spanned<String>),
    /// Already complained about; its value is dropped.
    Bad,
}

type Flow = std::ops::ControlFlow<()>;

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: granit_parser::Span) -> Flow {
        let span = self.span(span);
        self.read = self.read.max(span.end);
        match event {
            Event::DocumentStart(_, _) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.error(
                        "yaml-documents",
                        span,
                        "a configuration is one YAML document",
                        "remove the `---`, or `include` a second file",
                    );
                    return Flow::Break(());
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let poisoned = self.refuse_properties(span, anchor, tag.is_some());
                let node = self.scalar(text.into_owned(), style, span, poisoned);
                return self.node(node);
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_properties(span, anchor, tag.is_some());
                return self.open(Frame::Sequence { start: span.start, items: Vec::new() }, span);
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_properties(span, anchor, tag.is_some());
                return self.open(
                    Frame::Mapping { start: span.start, entries: Vec::new(), key: KeySlot::Awaited, has_bad_key: false },
                    span,
                );
            }
            Event::SequenceEnd | Event::MappingEnd => return self.close(span.end),
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let hint = format!("quote text that starts with `*`: \"{}\"", self.slice(span));
                self.error("yaml-alias", span, "YAML aliases are not part of this language", &hint);
                return self.node(Node { span, kind: Kind::Poisoned });
            }
            // Of a foreign enum that may grow: what carries no node changes no tree.
            _ => {}
        }
        Flow::Continue(())
    }

    fn span(&self, span: granit_parser::Span) -> Span {
        let start = span.start.byte_offset().unwrap_or(0).min(self.text.len());
        let end = span.end.byte_offset().unwrap_or(start).clamp(start, self.text.len());
        Span::new(self.file, start as u32, end as u32)
    }

    fn slice(&self, span: Span) -> &str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    fn error(&mut self, code: &'static str, span: Span, message: &str, hint: &str) {
        self.diagnostics.push(Diagnostic::error(code, span, message).hint(hint));
    }

    fn refuse_properties(&mut self, span: Span, anchor: usize, tagged: bool) -> bool {
        if anchor != 0 {
            self.error(
                "yaml-anchor",
                span,
                "YAML anchors are not part of this language",
                "remove the `&name`; quote text that starts with `&`",
            );
        }
        if tagged {
            self.error(
                "yaml-tag",
                span,
                "YAML tags are not part of this language",
                "remove the `!tag`; quote text that starts with `!`",
            );
        }
        anchor != 0 || tagged
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, span: Span, poisoned: bool) -> Node {
        let quoted = style != ScalarStyle::Plain;
        let is_value = !matches!(self.stack.last(), Some(Frame::Mapping { key: KeySlot::Awaited, .. }));
        if poisoned {
            return Node { span, kind: Kind::Poisoned };
        }
        if !quoted && is_value && is_old_boolean(&text) {
            let truth = matches!(text.to_ascii_lowercase().as_str(), "yes" | "on" | "true");
            let message = format!("`{text}` is no value: some readers take it for text and some for a boolean");
            self.error(
                "yaml-boolean",
                span,
                &message,
                &format!("type `{truth}` for the boolean; quote it if you mean the text: \"{text}\""),
            );
            return Node { span, kind: Kind::Poisoned };
        }
        Node { span, kind: Kind::Scalar(Scalar { text, quoted, is_hidden: false, origin: None }) }
    }

    fn open(&mut self, frame: Frame, span: Span) -> Flow {
        if self.stack.len() >= DEPTH_MAX {
            self.error("yaml-depth", span, &format!("more than {DEPTH_MAX} levels of nesting"), "write it flatter");
            return Flow::Break(());
        }
        self.stack.push(frame);
        Flow::Continue(())
    }

    fn close(&mut self, end: u32) -> Flow {
        let Some(frame) = self.stack.pop() else { return Flow::Continue(()) };
        let node = match frame {
            Frame::Sequence { start, items } => Node { span: self.block(start, end), kind: Kind::Sequence(items) },
            // Nothing is left of it but what was complained about.
            Frame::Mapping { start, entries, has_bad_key: true, .. } if entries.is_empty() => {
                Node { span: self.block(start, end), kind: Kind::Poisoned }
            }
            Frame::Mapping { start, mut entries, .. } => {
                self.refuse_duplicates(&mut entries);
                Node { span: self.block(start, end), kind: Kind::Mapping(entries) }
            }
        };
        self.node(node)
    }

    /// A block collection ends for the parser where the next token starts; for a reader, at its last character.
    fn block(&self, start: u32, end: u32) -> Span {
        let text = self.slice(Span::new(self.file, start, end.max(start)));
        Span::new(self.file, start, start + text.trim_end().len() as u32)
    }

    fn node(&mut self, node: Node) -> Flow {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            self.error("file-too-large", node.span, "the file has too many values", "split it, and `include` the parts");
            return Flow::Break(());
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame::Sequence { items, .. }) => items.push(node),
            Some(Frame::Mapping { entries, key, has_bad_key, .. }) => match std::mem::replace(key, KeySlot::Awaited) {
                KeySlot::Key(key) => entries.push((key, node)),
                KeySlot::Bad => *has_bad_key = true,
                KeySlot::Awaited => {
                    let slot = self.key(node);
                    if let Some(Frame::Mapping { key, .. }) = self.stack.last_mut() {
                        *key = slot;
                    }
                }
            },
        }
        Flow::Continue(())
    }

    fn key(&mut self, node: Node) -> KeySlot {
        let span = node.span;
        let scalar = match node.kind {
            Kind::Scalar(scalar) => scalar,
            Kind::Poisoned => return KeySlot::Bad,
            Kind::Sequence(_) | Kind::Mapping(_) => {
                let (message, hint) = match self.ipv6_at(span.start as usize) {
                    Some((_, hint)) => (IPV6_LIST, hint),
                    None => ("a key is text", QUOTE_BRACE.to_owned()),
                };
                self.error("yaml-key", span, message, &hint);
                return KeySlot::Bad;
            }
        };
        if scalar.is_null() {
            self.error("yaml-key", span, "a key is missing", "write `key: value`");
            return KeySlot::Bad;
        }
        if !scalar.quoted && scalar.text == "<<" {
            self.error("yaml-merge", span, "YAML merge keys are not part of this language", "write the keys out");
            return KeySlot::Bad;
        }
        if !scalar.quoted && is_old_boolean(&scalar.text) {
            let message = format!("`{}` is no key: some readers take it for a boolean", scalar.text);
            self.error("yaml-boolean", span, &message, &format!("quote it if you mean the text: \"{}\"", scalar.text));
            return KeySlot::Bad;
        }
        KeySlot::Key(Spanned::new(scalar.text, span))
    }

    /// The first of two stays, so that one slip is one diagnostic.
    fn refuse_duplicates(&mut self, entries: &mut Vec<Entry>) {
        let mut repeats: Vec<(usize, Span)> = Vec::new();
        if entries.len() <= SMALL_MAPPING {
            for (at, (key, _)) in entries.iter().enumerate() {
                if let Some((first, _)) = entries[..at].iter().find(|(other, _)| other.value == key.value) {
                    repeats.push((at, first.span));
                }
            }
        } else {
            let mut seen: HashMap<&str, Span> = HashMap::with_capacity(entries.len());
            for (at, (key, _)) in entries.iter().enumerate() {
                if let Some(first) = seen.get(key.value.as_str()) {
                    repeats.push((at, *first));
                } else {
                    seen.insert(&key.value, key.span);
                }
            }
        }
        for (at, first) in &repeats {
            let key = &entries[*at].0;
            self.diagnostics.push(
                Diagnostic::error("duplicate-key", key.span, format!("the key `{}` stands twice", key.value))
                    .hint("remove one of them")
                    .also(*first, "first written here"),
            );
        }
        if !repeats.is_empty() {
            let mut at = 0;
            let mut repeats = repeats.iter().map(|(at, _)| *at).peekable();
            entries.retain(|_| {
                let repeat = repeats.next_if_eq(&at).is_some();
                at += 1;
                !repeat
            });
        }
    }

    fn finish(self) -> Option<Node> {
        if self.root.is_none() {
            let message = "the file says nothing";
            self.diagnostics.push(
                Diagnostic::error("empty-file", Span::new(self.file, 0, 0), message).hint("start with `listen: 127.0.0.1:8080`"),
            );
        }
        self.root
    }

    fn syntax(&mut self, error: &ScanError) {
        let at = error.marker().byte_offset().unwrap_or(0).min(self.text.len());
        let at = floor_boundary(self.text, at);
        let (message, hint) = self.explain(error.kind(), at, error);
        let span = self.culprit(error.kind(), at);
        let code = if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) { "yaml-depth" } else { "yaml-syntax" };
        let mut diagnostic = Diagnostic::error(code, span, message);
        diagnostic.hint = hint;
        self.diagnostics.push(diagnostic);
    }

    /// What the parser stumbled over, which may stand before the place where it noticed.
    fn culprit(&self, kind: &ErrorKind, at: usize) -> Span {
        let to = |start: usize, end: usize| Span::new(self.file, start as u32, end as u32);
        if let Some((address, _)) = self.ipv6_before(at) {
            return to(address.start, address.end);
        }
        let is_quote = matches!(kind, ErrorKind::UnclosedQuotedScalar | ErrorKind::InvalidQuotedScalarIndent);
        if is_quote && let Some(start) = self.open_quote(at) {
            let line = self.text[start..].lines().next().unwrap_or_default().trim_end();
            return to(start, start + line.len());
        }
        let width = self.text[at..].chars().next().map_or(0, |c| if c == '\n' { 0 } else { c.len_utf8() });
        to(at, at + width)
    }

    /// The quote that is open at `at`: the first that stands behind what was read, in no comment, and where a value may begin.
    fn open_quote(&self, at: usize) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let begins = |at: usize| at.checked_sub(1).is_none_or(|before| b" \t\n[{,:".contains(&bytes[before]));
        let mut place = self.read as usize;
        while place <= at {
            match bytes.get(place)? {
                b'#' if begins(place) => place += bytes[place..].iter().position(|byte| *byte == b'\n')?,
                b'"' | b'\'' if begins(place) => return Some(place),
                _ => {}
            }
            place += 1;
        }
        None
    }

    /// An address such as `[::1]:8080` that begins at `at` with its bracket, whatever is written around it: where all of that
    /// stands, and what to write instead.
    fn ipv6_at(&self, at: usize) -> Option<(Range<usize>, String)> {
        let text = self.text;
        let inside = text.get(at..)?.strip_prefix('[')?;
        let (address, _) = inside.split_once(']')?;
        address.trim().parse::<Ipv6Addr>().ok()?;
        let ends = |c: char| c.is_whitespace() || ",]}".contains(c);
        let behind = at + 1 + address.len() + 1;
        let end = text[behind..].find(ends).map_or(text.len(), |length| behind + length);
        let begins = |c: char| c.is_ascii_whitespace() || ",[{".contains(c);
        let start = text[..at].rfind(begins).map_or(0, |before| before + 1);
        Some((start..end, format!("quote it: \"{}\"", &text[start..end])))
    }

    /// The same where the parser noticed at `at`: behind the closing bracket, or at one that opens within a value.
    fn ipv6_before(&self, at: usize) -> Option<(Range<usize>, String)> {
        match (self.text.as_bytes().get(at)?, at.checked_sub(1).and_then(|before| self.text.as_bytes().get(before))) {
            (b'[', _) => self.ipv6_at(at),
            (b':', Some(b']')) => self.ipv6_at(self.text[..at].rfind('[')?),
            _ => None,
        }
    }

    fn explain(&self, kind: &ErrorKind, at: usize, error: &ScanError) -> (String, Option<String>) {
        if let Some((_, hint)) = self.ipv6_before(at) {
            return (IPV6_LIST.to_owned(), Some(hint));
        }
        if self.near_brace(at) {
            return ("a value with an unquoted `{` is read as a mapping".to_owned(), Some(QUOTE_BRACE.to_owned()));
        }
        if self.text[..at].ends_with('"') && matches!(kind, ErrorKind::ExpectedBlockMappingKey) {
            return ("text follows a closing quote".to_owned(), Some("quote the whole value".to_owned()));
        }
        let (message, hint) = match kind {
            ErrorKind::RecursionLimitExceeded => {
                return (format!("more than {DEPTH_MAX} levels of nesting"), Some("write it flatter".to_owned()));
            }
            ErrorKind::UnclosedFlowCollection { open } => {
                return (format!("this `{open}` is never closed"), Some("close it, or quote the value".to_owned()));
            }
            ErrorKind::UnclosedQuotedScalar | ErrorKind::InvalidQuotedScalarIndent => {
                ("a quote is open here, and is not closed on its line", "close it at the end of the value")
            }
            ErrorKind::InvalidColonPlacement => {
                ("a `:` where none can stand", "close the `[` or `{` before it, or quote the value")
            }
            ErrorKind::SimpleKeyExpected => {
                ("this is neither a key nor part of the list above", "write `key: value`, or `- value` in a list")
            }
            ErrorKind::UnknownAnchor => ("YAML aliases are not part of this language", "quote text that starts with `*`"),
            ErrorKind::UnknownQuotedScalarEscape | ErrorKind::InvalidQuotedScalarHexEscape => {
                ("an unknown escape in double quotes", "write \\\\ for a backslash, or use single quotes")
            }
            ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation => {
                ("a tab indents nothing in YAML", "indent with spaces")
            }
            ErrorKind::MappingValueNotAllowed => {
                ("a second `: ` on one line", "quote a value that contains `: `, or put the second key on a line of its own")
            }
            ErrorKind::UnexpectedCharacter { character } => {
                return (format!("no value starts with `{character}`"), Some(format!("quote it: \"{character}…\"")));
            }
            ErrorKind::ExpectedBlockMappingKey => ("a key is expected here", "indent it like the keys before it"),
            ErrorKind::ExpectedBlockSequenceEntry => ("a `- ` is expected here", "indent it like the entries before it"),
            ErrorKind::InvalidIndentation => ("the indentation fits no line above", "indent it like the lines it belongs to"),
            ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::UnexpectedEofFlowMapping => {
                ("a `,` or the closing `}` is expected here", "close the `{`, or quote the value")
            }
            ErrorKind::ExpectedFlowSequenceSeparator | ErrorKind::UnexpectedEofFlowSequence => {
                ("a `,` or the closing `]` is expected here", "close the `[`, or quote the value")
            }
            ErrorKind::InvalidTrailingDoubleQuotedScalar => {
                ("text follows a closing quote", "quote the whole value, and write \\\" for a quote inside it")
            }
            ErrorKind::UnexpectedEof => ("the file ends in the middle of a value", "close what is open"),
            _ => return (format!("this is not YAML: {}", error.info()), None),
        };
        (message.to_owned(), Some(hint.to_owned()))
    }

    /// Whether the parser stumbled over `/a/{id}` inside `{ }` or `[ ]`, or over what follows a leading `{id}`.
    fn near_brace(&self, at: usize) -> bool {
        let bytes = self.text.as_bytes();
        let before = at.checked_sub(1).and_then(|before| bytes.get(before)).copied().unwrap_or(b' ');
        match bytes.get(at) {
            Some(b'{') => !matches!(before, b' ' | b',' | b'[' | b'{' | b'\n'),
            Some(next) => before == b'}' && !next.is_ascii_whitespace() && !b",]}#".contains(next),
            None => false,
        }
    }
}

/// YAML 1.1 took these for booleans, YAML 1.2 does not, or only some spellings: whoever writes one is misread by somebody.
fn is_old_boolean(text: &str) -> bool {
    let is = |word: &&str| text.eq_ignore_ascii_case(word);
    match text.len() {
        2 | 3 => ["yes", "no", "on", "off"].iter().any(is),
        4 | 5 => !matches!(text, "true" | "false") && ["true", "false"].iter().any(is),
        _ => false,
    }
}
