//! What each column is for.

use super::{
    column::Looks,
    names::{self, has_word, rank},
    sample::{Sample, Values},
};

/// The same for all rows, or by a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Constant(String),
    Column(String),
}

/// A key of the mapping, the column that it takes, how, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) key: String,
    pub(super) column: String,
    pub(super) kind: Option<&'static str>,
    pub(super) format: Option<&'static str>,
    pub(super) why: String,
}

/// What a mapping says.
#[derive(Debug, Clone)]
pub(super) struct Guess {
    pub(super) kind: (Said, String),
    pub(super) event: Option<(Said, String)>,
    pub(super) message_id: Option<Line>,
    pub(super) timestamp: Option<Line>,
    pub(super) identifiers: Vec<Line>,
    pub(super) properties: Vec<Line>,
    pub(super) traits: Vec<Line>,
    pub(super) notes: Vec<String>,
}

/// A column and what its values look like.
struct Column<'a> {
    values: &'a Values,
    looks: Looks,
}

impl Column<'_> {
    fn name(&self) -> &str {
        &self.values.name
    }

    fn line(&self, key: &str, why: String) -> Line {
        Line { key: key.to_owned(), column: self.name().to_owned(), kind: None, format: None, why }
    }

    /// How many of the values fit, in words.
    fn share(&self, fitting: usize, what: &str) -> String {
        match self.looks.present {
            present if present == fitting => format!("all {present} values {what}"),
            present => format!("{fitting} of {present} values {what}"),
        }
    }
}

/// Columns, and which of them are taken already.
struct Columns<'a> {
    all: Vec<Column<'a>>,
    has_names: bool,
}

impl<'a> Columns<'a> {
    fn of(sample: &'a Sample) -> Self {
        let readable = sample.columns.iter().filter(|column| column.refused.is_none());
        let all = readable.map(|values| Column { values, looks: Looks::of(values) }).collect();
        Self { all, has_names: sample.csv.as_ref().is_none_or(|csv| csv.has_header) }
    }

    /// The column whose name fits a list best, of those that a condition holds for.
    fn named(&self, list: &[&str], fits: impl Fn(&Column<'a>) -> bool) -> Option<&Column<'a>> {
        let single = self.all.iter().filter(|column| !column.values.nested && column.looks.present > 0);
        let ranked = single.filter_map(|column| Some((rank(column.name(), list)?, column)));
        let fitting = ranked.filter(|(_, column)| fits(column));
        // Of columns whose names fit alike, the one that isn't within an object.
        fitting.min_by_key(|(rank, column)| (*rank, column.values.inner)).map(|(_, column)| column)
    }
}

/// Guesses; nothing when no column holds anything.
pub(super) fn guess(sample: &Sample, file: &str) -> Option<Guess> {
    let columns = Columns::of(sample);
    let mut notes = Vec::new();
    let message_id = message_id(&columns, &mut notes);
    let timestamp = timestamp(&columns, &mut notes);
    let identifiers = identifiers(&columns, timestamp.as_ref(), &mut notes)?;
    let (kind, event, is_event) = kind(&columns, &identifiers, timestamp.as_ref(), file);
    let mut guess = Guess {
        kind,
        event,
        message_id,
        timestamp,
        identifiers,
        properties: Vec::new(),
        traits: Vec::new(),
        notes,
    };
    fields(&columns, is_event, &mut guess);
    for column in sample.columns.iter().filter(|column| column.refused.is_some()) {
        guess.notes.push(format!("left out: `{}` {}", column.name, column.refused.unwrap_or_default()));
    }
    Some(guess)
}

fn message_id(columns: &Columns<'_>, notes: &mut Vec<String>) -> Option<Line> {
    let column = columns.named(names::MESSAGE_ID, |_| true)?;
    let looks = &column.looks;
    if looks.complete() && looks.unique() && looks.longest <= 100 {
        return Some(column.line("message_id", column.share(looks.distinct, "differ")));
    }
    notes.push(format!(
        "`{}` is no message id: {}, and rows with the same one would count as one",
        column.name(),
        column.share(looks.distinct, "differ")
    ));
    None
}

fn timestamp(columns: &Columns<'_>, notes: &mut Vec<String>) -> Option<Line> {
    let may_be = |column: &Column<'_>| !has_word(column.name(), names::NOT_WHEN);
    let by_name = columns.named(names::TIME, |column| may_be(column) && column.looks.time().is_some());
    let by_value = || {
        // Without names, a column of dates is when it happened.
        let mut times =
            columns.all.iter().filter(|column| !columns.has_names && column.looks.time().is_some());
        times.next()
    };
    let Some(column) = by_name.or_else(by_value) else {
        if let Some(column) = columns.named(names::TIME, may_be) {
            let fitting = column.looks.times.map_or(0, |times| times.fitting);
            let share = format!("{fitting} of {} rows have a time in it", column.looks.rows);
            notes.push(format!(
                "`{}` is no timestamp as it is: {share}; rows without one would not come in",
                column.name()
            ));
        }
        return None;
    };
    let times = column.looks.time()?;
    let mut why = column.share(times.fitting, "are times");
    if times.ambiguous {
        why.push_str("; day and month could be the other way round");
    }
    Some(Line { format: times.pattern, ..column.line("timestamp", why) })
}

fn identifiers(
    columns: &Columns<'_>,
    timestamp: Option<&Line>,
    notes: &mut Vec<String>,
) -> Option<Vec<Line>> {
    let mut found = Vec::new();
    let free = |column: &Column<'_>| {
        timestamp.is_none_or(|time| time.column != column.name())
            && !column.looks.share(column.looks.emails, 80)
            && !column.looks.all(column.looks.cents)
            && !column.looks.all(column.looks.booleans)
    };
    // `customer` is one, `is_customer` is not; `shop_customer_id` is.
    let called =
        |column: &Column<'_>| names::is_one_of(column.name(), names::USER_ID) || is_code(column.name());
    if let Some(column) = columns.named(names::USER_ID, |column| free(column) && called(column)) {
        found.push(column.line("user_id", distinct(column, "by its name")));
    }
    let fits_email = |column: &Column<'_>| column.looks.share(column.looks.emails, 50);
    let email = columns.named(names::EMAIL, fits_email).or_else(|| {
        columns.all.iter().find(|column| !column.values.nested && column.looks.share(column.looks.emails, 80))
    });
    if let Some(column) = email {
        found.push(column.line("email", column.share(column.looks.emails, "are e-mail addresses")));
    }
    let phone = columns.named(names::PHONE, |column| column.looks.share(column.looks.phones, 70));
    if let Some(column) = phone {
        found.push(column.line("phone", column.share(column.looks.phones, "look like telephone numbers")));
    }
    let taken = |column: &Column<'_>| found.iter().any(|line: &Line| line.column == column.name());
    if let Some(column) = columns.named(names::ANONYMOUS_ID, |column| free(column) && !taken(column)) {
        let line = column.line("anonymous_id", distinct(column, "by its name"));
        found.push(line);
    }
    if found.is_empty() {
        let column = last_resort(columns, free)?;
        found.push(
            column.line("user_id", distinct(column, "no column is called like a customer; this is a guess")),
        );
        notes.push(format!("look at user_id first: is `{}` really the customer?", column.name()));
    }
    Some(found)
}

fn distinct(column: &Column<'_>, why: &str) -> String {
    let Looks { distinct, present, .. } = column.looks;
    match column.looks.unique() {
        true => format!("{why}; all {present} values differ"),
        false => format!("{why}; {distinct} different values in {present} rows"),
    }
}

/// Whether a column is called like what only names something, even if it is made of digits.
fn is_code(name: &str) -> bool {
    ["id", "no", "nr", "number", "nummer", "key", "code"].iter().any(|end| names::plain(name).ends_with(end))
}

/// The column that is called like some number or id, else the first one that tells rows apart.
fn last_resort<'c, 'a>(
    columns: &'c Columns<'a>,
    free: impl Fn(&Column<'a>) -> bool,
) -> Option<&'c Column<'a>> {
    let single = || columns.all.iter().filter(|column| !column.values.nested && column.looks.present > 0);
    let usable = || single().filter(|column| free(column) && column.looks.longest <= 200);
    let called = |column: &&Column<'a>| is_code(column.name());
    // In every row, so that none is without a customer.
    let by_name = usable().filter(called).find(|column| column.looks.complete());
    let apart = || usable().filter(|column| column.looks.complete()).find(|column| column.looks.distinct > 1);
    by_name.or_else(apart).or_else(|| single().next())
}

/// Whether rows are what happened or who somebody is, and what it is called.
fn kind(
    columns: &Columns<'_>,
    identifiers: &[Line],
    timestamp: Option<&Line>,
    file: &str,
) -> ((Said, String), Option<(Said, String)>, bool) {
    let by_type = columns.named(names::EVENT_TYPE, |column| {
        column.looks.complete() && column.looks.all(column.looks.event_types)
    });
    let is_name = |column: &Column<'_>| {
        let looks = &column.looks;
        // Names come again and again, and aren't numbers.
        looks.complete()
            && looks.decimals == 0
            && looks.event_types == 0
            && looks.distinct * 2 <= looks.rows.max(8)
    };
    let by_event = columns.named(names::EVENT, is_name);
    let event = by_event.map(|column| {
        let why = format!("{} different ones", column.looks.distinct);
        (Said::Column(column.name().to_owned()), why)
    });
    if let Some(column) = by_type {
        let why = column.share(column.looks.event_types, "are types of events");
        let said = Said::Column(column.name().to_owned());
        return (
            (said, why),
            event.or_else(|| Some((Said::Constant(stem(file)), "the file's name".to_owned()))),
            true,
        );
    }
    if let Some(event) = event {
        return (
            (Said::Constant("track".to_owned()), "a column says what happened".to_owned()),
            Some(event),
            true,
        );
    }
    let customer =
        identifiers.first().and_then(|line| columns.all.iter().find(|it| it.name() == line.column));
    let repeats = customer.is_some_and(|column| column.looks.present > 0 && !column.looks.unique());
    let is_order = columns.all.iter().any(|column| has_word(column.name(), names::ORDER_WORDS));
    let has_revenue = revenue(columns).is_some();
    if (repeats && (timestamp.is_some() || has_revenue)) || (is_order && has_revenue) {
        let why = if repeats { "a customer has several rows" } else { "the columns are those of orders" };
        let (name, called) = match has_revenue {
            true => ("Order Completed".to_owned(), "there is revenue"),
            false => (stem(file), "the file's name: say what really happened"),
        };
        let event = Some((Said::Constant(name), called.to_owned()));
        return ((Said::Constant("track".to_owned()), why.to_owned()), event, true);
    }
    let why = if repeats { "no column says when or for how much" } else { "no customer has two rows" };
    ((Said::Constant("identify".to_owned()), why.to_owned()), None, false)
}

/// A file's name without its endings.
fn stem(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    let stem = name.split('.').find(|part| !part.is_empty()).unwrap_or("Row");
    stem.to_owned()
}

/// The column that holds what an order came to.
fn revenue<'c, 'a>(columns: &'c Columns<'a>) -> Option<&'c Column<'a>> {
    let fits = |column: &Column<'_>| column.looks.all(column.looks.decimals);
    let by_name = columns.named(names::REVENUE, fits);
    by_name.or_else(|| {
        let mut cents =
            columns.all.iter().filter(|column| !columns.has_names && column.looks.all(column.looks.cents));
        cents.next().filter(|_| cents.next().is_none())
    })
}

/// Everything else: properties of what happened, or traits of who it is.
fn fields(columns: &Columns<'_>, is_event: bool, guess: &mut Guess) {
    let revenue = revenue(columns).filter(|_| is_event).map(Column::name);
    let currency = columns.named(names::CURRENCY, |column| column.looks.all(column.looks.currencies));
    let currency = currency.filter(|_| is_event).map(Column::name);
    let mut said: Vec<&str> = Vec::new();
    let columns_said = [&guess.kind.0].into_iter().chain(guess.event.as_ref().map(|(said, _)| said));
    said.extend(
        columns_said.filter_map(|it| if let Said::Column(name) = it { Some(name.as_str()) } else { None }),
    );
    said.extend(guess.message_id.iter().chain(&guess.timestamp).map(|line| line.column.as_str()));
    let contact = |line: &&Line| is_event || !matches!(line.key.as_str(), "email" | "phone");
    said.extend(guess.identifiers.iter().filter(contact).map(|line| line.column.as_str()));
    let mut lines = Vec::new();
    // What lies within objects comes with them, but for what is looked for.
    let wanted = |column: &&Column<'_>| {
        let name = Some(column.name());
        (!column.values.inner || name == revenue || name == currency) && !said.contains(&column.name())
    };
    for column in columns.all.iter().filter(wanted) {
        if column.looks.present == 0 {
            guess.notes.push(format!("left out: `{}` is empty in all sampled rows", column.name()));
            continue;
        }
        let known = guess.identifiers.iter().find(|line| line.column == column.name());
        let line = match column.name() {
            name if Some(name) == revenue => {
                let why = column.share(column.looks.decimals, "are decimals; summed as revenue");
                Line { kind: Some("decimal"), ..column.line("revenue", why) }
            }
            name if Some(name) == currency => {
                column.line("currency", column.share(column.looks.currencies, "look like currencies"))
            }
            name => typed(column, known.map_or(name, |line| line.key.as_str())),
        };
        lines.push(line);
    }
    // A column that is called as another one was made to be keeps its own name out of the way.
    let made = |line: &Line| line.key != line.column;
    let mut keys: Vec<String> = lines.iter().filter(|line| made(line)).map(|line| line.key.clone()).collect();
    for line in lines.iter_mut().filter(|line| !made(line)) {
        while keys.contains(&line.key) {
            line.key.push('_');
        }
        keys.push(line.key.clone());
    }
    match is_event {
        true => guess.properties = lines,
        false => guess.traits = lines,
    }
}

/// A trait or property, with a type where all values have it.
fn typed(column: &Column<'_>, key: &str) -> Line {
    let looks = &column.looks;
    if column.values.typed {
        return column.line(key, format!("{} of {} rows have it", looks.present, looks.rows));
    }
    let is_code = is_code(column.name()) || has_word(column.name(), &["zip", "phone"]);
    let is_date = looks.times.is_some_and(|times| looks.share(times.fitting, 50));
    let kind = match looks {
        // Neither is to be reckoned with.
        _ if is_code || is_date => None,
        _ if looks.all(looks.integers) && looks.zero_led == 0 => Some(("integer", "are integers")),
        _ if looks.all(looks.decimals) && looks.zero_led == 0 => Some(("decimal", "are decimals")),
        _ if looks.all(looks.booleans) => Some(("boolean", "are true or false")),
        _ => None,
    };
    match kind {
        Some((kind, what)) => {
            Line { kind: Some(kind), ..column.line(key, column.share(looks.present, what)) }
        }
        None => column.line(key, format!("{} of {} rows have it", looks.present, looks.rows)),
    }
}
