//! Sets of customers: `count(A and B not C)` over the bitmaps of segments.
//!
//! Names of segments with `and`, `or`, `not` and parentheses, in lower or upper case. `not` behind a set takes another
//! away from it; in front, it takes away from all profiles. `and` and `not` bind more tightly than `or`. A name that is
//! one of the words stands in double quotes.
//!
//! Whether a profile is in a segment may be unknown, since a bound was passed; it is then unknown of `not` as well, and `and`
//! and `or` are Kleene's. Nobody of whom it is unknown counts as in.
//!
//! A shard has two bitmaps for each segment, over its own numbers for profiles; an expression is worked out shard by shard,
//! and the counts add up.

use std::borrow::Cow;

use roaring::RoaringBitmap;

use crate::fault::{Fault, Place, suggestion};

/// The longest expression, in bytes, and how deep it may be nested.
pub const TEXT_BYTES_MAX: usize = 4 << 10;
const DEPTH_MAX: usize = 32;

/// An expression over segments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Algebra(Set);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Set {
    Named(String),
    /// The first, with each of the others or without it.
    Chain(Box<Set>, Vec<(Set, bool)>),
    AnyOf(Vec<Set>),
    AllBut(Box<Set>),
}

impl Algebra {
    /// Reads an expression, with `count(…)` around it or without. `known` are the names of the segments.
    ///
    /// # Errors
    /// What is wrong, where, and what to do.
    pub fn parse<'n>(text: &str, known: impl IntoIterator<Item = &'n str>) -> Result<Self, Fault> {
        if text.len() > TEXT_BYTES_MAX {
            let what = format!("the text has {} bytes; {TEXT_BYTES_MAX} are the most", text.len());
            return Err(Fault::new(Place::START, what));
        }
        let known: Vec<&str> = known.into_iter().collect();
        let mut parser =
            Parser { tokens: tokens(text)?, at: 0, depth: 0, known, end: Place::of_byte(text, text.len()) };
        let counted = matches!(parser.peek(), Some(Token::Name(name, false)) if name.eq_ignore_ascii_case("count"))
            && matches!(parser.tokens.get(1), Some((Token::Open, _)));
        parser.at += usize::from(counted);
        let set = parser.any_of()?;
        match parser.peek() {
            None => Ok(Self(set)),
            Some(Token::Close) => Err(Fault::new(parser.place(), "this closes nothing: take it out")),
            Some(_) => Err(Fault::new(parser.place(), "write and, or or not between two segments")),
        }
    }

    /// The names in it, sorted, each once.
    pub fn names(&self) -> Vec<&str> {
        fn collect<'s>(set: &'s Set, out: &mut Vec<&'s str>) {
            match set {
                Set::Named(name) => out.push(name),
                Set::Chain(first, others) => {
                    collect(first, out);
                    others.iter().for_each(|(set, _)| collect(set, out));
                }
                Set::AnyOf(sets) => sets.iter().for_each(|set| collect(set, out)),
                Set::AllBut(set) => collect(set, out),
            }
        }
        let mut names = Vec::new();
        collect(&self.0, &mut names);
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The profiles of a shard that are in it: `of` gives a segment's bitmaps (one that isn't there has nobody), `all` are
    /// all profiles.
    pub fn members<'b>(
        &self,
        of: &impl Fn(&str) -> Option<Sets<'b>>,
        all: &'b RoaringBitmap,
    ) -> Cow<'b, RoaringBitmap> {
        worked_out(&self.0, Bound::Sure, of, all)
    }

    /// How many are in it, and of how many that is unknown.
    pub fn count<'b>(&self, of: &impl Fn(&str) -> Option<Sets<'b>>, all: &'b RoaringBitmap) -> (u64, u64) {
        let sure = counted(&self.0, Bound::Sure, of, all);
        let is_known = |name: &str| of(name).is_none_or(|known| known.unknown.is_empty());
        if self.names().into_iter().all(is_known) {
            return (sure, 0);
        }
        // Whoever is surely in it is also possibly in it.
        (sure, counted(&self.0, Bound::Possible, of, all).saturating_sub(sure))
    }
}

/// What a shard knows of a segment. Nobody is in both.
#[derive(Clone, Copy, Debug)]
pub struct Sets<'b> {
    /// Who is in it.
    pub members: &'b RoaringBitmap,
    /// Of whom it is unknown.
    pub unknown: &'b RoaringBitmap,
}

/// Which of the two sets is worked out between which the truth lies: with nobody of whom it is unknown, or with all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bound {
    Sure,
    Possible,
}

impl Bound {
    /// Who is surely not in a set are all but those that are possibly in it.
    fn of_complement(self) -> Self {
        match self {
            Self::Sure => Self::Possible,
            Self::Possible => Self::Sure,
        }
    }

    /// That of a set which a chain goes on with, or without.
    fn of_link(self, with: bool) -> Self {
        if with { self } else { self.of_complement() }
    }
}

fn counted<'b>(
    set: &Set,
    bound: Bound,
    of: &impl Fn(&str) -> Option<Sets<'b>>,
    all: &'b RoaringBitmap,
) -> u64 {
    // The last step of a chain is only counted, not made.
    match set {
        Set::Chain(first, others) if let [rest @ .., (last, with)] = &others[..] => {
            let set = chained(worked_out(first, bound, of, all), rest, bound, of, all);
            let last = worked_out(last, bound.of_link(*with), of, all);
            if *with { set.intersection_len(&last) } else { set.difference_len(&last) }
        }
        set => worked_out(set, bound, of, all).len(),
    }
}

fn worked_out<'b>(
    set: &Set,
    bound: Bound,
    of: &impl Fn(&str) -> Option<Sets<'b>>,
    all: &'b RoaringBitmap,
) -> Cow<'b, RoaringBitmap> {
    match set {
        Set::Named(name) => match of(name) {
            None => Cow::Owned(RoaringBitmap::new()),
            Some(known) if bound == Bound::Sure || known.unknown.is_empty() => Cow::Borrowed(known.members),
            Some(known) => Cow::Owned(known.members | known.unknown),
        },
        Set::Chain(first, others) => chained(worked_out(first, bound, of, all), others, bound, of, all),
        Set::AnyOf(sets) => {
            let mut sum: Option<Cow<'b, RoaringBitmap>> = None;
            for set in sets {
                let set = worked_out(set, bound, of, all);
                sum = Some(match sum {
                    None => set,
                    Some(sum) => Cow::Owned(&*sum | &*set),
                });
            }
            sum.unwrap_or_default()
        }
        Set::AllBut(set) => Cow::Owned(all - &*worked_out(set, bound.of_complement(), of, all)),
    }
}

fn chained<'b>(
    mut sum: Cow<'b, RoaringBitmap>,
    others: &[(Set, bool)],
    bound: Bound,
    of: &impl Fn(&str) -> Option<Sets<'b>>,
    all: &'b RoaringBitmap,
) -> Cow<'b, RoaringBitmap> {
    for (other, with) in others {
        let other = worked_out(other, bound.of_link(*with), of, all);
        sum = Cow::Owned(if *with { &*sum & &*other } else { &*sum - &*other });
    }
    sum
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Token {
    /// A name, and whether it was quoted.
    Name(String, bool),
    Open,
    Close,
}

fn tokens(text: &str) -> Result<Vec<(Token, Place)>, Fault> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let place = Place::of_byte(text, text.len() - rest.len());
        let Some(c) = rest.chars().next() else { return Ok(tokens) };
        let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let (token, length) = match c {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '"' => match rest[1..].find('"') {
                Some(length) => (Token::Name(rest[1..1 + length].to_owned(), true), length + 2),
                None => return Err(Fault::new(place, "this quote is not closed")),
            },
            c if is_name(c) => {
                let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                (Token::Name(rest[..length].to_owned(), false), length)
            }
            c => {
                let what =
                    format!("{c:?} has no meaning here: write names of segments, and, or, not, ( and )");
                return Err(Fault::new(place, what));
            }
        };
        tokens.push((token, place));
        rest = &rest[length..];
    }
}

struct Parser<'n> {
    tokens: Vec<(Token, Place)>,
    at: usize,
    depth: usize,
    known: Vec<&'n str>,
    end: Place,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn place(&self) -> Place {
        self.tokens.get(self.at).map_or(self.end, |(_, place)| *place)
    }

    /// Takes a word, if it comes next.
    fn word(&mut self, word: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Name(name, false)) if name.eq_ignore_ascii_case(word));
        self.at += usize::from(is);
        is
    }

    fn any_of(&mut self) -> Result<Set, Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Fault::new(self.place(), format!("nested too deeply: at most {DEPTH_MAX}")));
        }
        let first = self.chain()?;
        let mut sets = vec![first];
        while self.word("or") {
            sets.push(self.chain()?);
        }
        self.depth -= 1;
        Ok(match <[Set; 1]>::try_from(sets) {
            Ok([one]) => one,
            Err(sets) => Set::AnyOf(sets),
        })
    }

    fn chain(&mut self) -> Result<Set, Fault> {
        let first = if self.word("not") { Set::AllBut(Box::new(self.one()?)) } else { self.one()? };
        let mut others = Vec::new();
        loop {
            let and = self.word("and");
            let not = self.word("not");
            if !and && !not {
                break;
            }
            others.push((self.one()?, !not));
        }
        Ok(if others.is_empty() { first } else { Set::Chain(Box::new(first), others) })
    }

    fn one(&mut self) -> Result<Set, Fault> {
        let place = self.place();
        match self.tokens.get(self.at).map(|(token, _)| token.clone()) {
            Some(Token::Open) => {
                self.at += 1;
                let set = self.any_of()?;
                if self.peek() != Some(&Token::Close) {
                    return Err(Fault::new(
                        self.place(),
                        format!("the parenthesis of {place} is not closed"),
                    ));
                }
                self.at += 1;
                Ok(set)
            }
            Some(Token::Name(name, quoted)) => {
                if !quoted && ["and", "or", "not"].iter().any(|word| name.eq_ignore_ascii_case(word)) {
                    return Err(Fault::new(place, format!("a segment is needed in front of {name}")));
                }
                if !self.known.contains(&name.as_str()) {
                    let what = format!(
                        "there is no segment {name}{}",
                        suggestion(&name, self.known.iter().copied())
                    );
                    return Err(Fault::new(place, what));
                }
                self.at += 1;
                Ok(Set::Named(name))
            }
            Some(Token::Close) => Err(Fault::new(place, "a segment is needed in front of this parenthesis")),
            None => Err(Fault::new(place, "a segment is needed here")),
        }
    }
}

#[cfg(test)]
mod tests;
