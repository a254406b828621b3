//! The customers of a shop, and what they did in the first half of 2026: the same for everyone who asks for the same size,
//! and each customer by itself, so that any number of them can be made side by side and none has to be kept.
//!
//! Half of the customers are known by one name alone, three in ten by several that an event joins, two in ten never say
//! who they are. A few do much and many little. Among it are kiosks that too many people share, events that come late,
//! refunds, and items that can't be taken.

use std::fmt::Write as _;

use super::Numbers;

/// Systems that send.
pub const SOURCES: [&str; 3] = ["web", "shop", "app"];
/// Schemas of what is sent: the name, and the file's content. What they name are columns.
pub const SCHEMAS: [(&str, &str); 3] = [
    (
        "identify",
        r#"{"properties":{"country":{"type":"string"},"age":{"type":"integer"},"plan":{"type":"string"}}}"#,
    ),
    (
        "track:Order Completed",
        r#"{"required":["revenue"],"properties":{"product":{"type":"string"},"quantity":{"type":"integer","minimum":1},"revenue":{"type":"number"}}}"#,
    ),
    ("track:Product Added", r#"{"properties":{"product":{"type":"string"},"quantity":{"type":"integer"}}}"#),
];
/// Segments that questions ask about: the name, and the expression.
pub const SEGMENTS: [(&str, &str); 3] = [
    ("buyers", "events('Order Completed') >= 1"),
    ("loyal", "events('Order Completed') >= 3"),
    ("pros", "plan = 'pro'"),
];

/// How many events customers have, relative to each other: eight by eight, in an order of its own.
const WEIGHTS: [u64; 8] = [1, 2, 3, 4, 6, 10, 18, 36];
const WEIGHTS_SUM: u64 = 80;
const COUNTRIES: [&str; 12] = ["DE", "FR", "IT", "PL", "ES", "SE", "NL", "AT", "CH", "CZ", "DK", "PT"];
const PRODUCTS: [&str; 8] = ["lamp", "chair", "table", "sofa", "rug", "shelf", "bed", "clock"];
const CHANNELS: [&str; 4] = ["search", "mail", "direct", "ad"];
const PATHS: [&str; 5] = ["/", "/lamps", "/sale", "/help", "/account"];
const TOPICS: [&str; 3] = ["delivery", "billing", "quality"];
/// Days of the months.
const MONTHS: [i64; 6] = [31, 28, 31, 30, 31, 30];
const MINUTE: i64 = 60_000;
const DAY: i64 = 1_440 * MINUTE;
/// From the first millisecond of the year to the last one of June.
const SPAN: i64 = 181 * DAY;

/// How large the shop is.
#[derive(Clone, Copy, Debug)]
pub struct Shop {
    /// How many customers it has.
    pub customers: u64,
    /// How many events are accepted of all of them: at least one of each.
    pub events: u64,
}

/// Something that a system sends.
#[derive(Clone, Debug)]
pub struct Item {
    /// Which one, by its place in [`SOURCES`].
    pub source: usize,
    /// Whether it comes in after everything that is not late.
    pub is_late: bool,
    /// Whether it is kept in quarantine. These are no events.
    pub is_odd: bool,
    /// What is sent.
    pub json: String,
}

impl Shop {
    /// Everything that is sent about a customer.
    pub fn of_customer(&self, customer: u64) -> Vec<Item> {
        let left = self.events_of(customer);
        let mut numbers = Numbers(customer.wrapping_mul(0x5851_f42d_4c95_7f2d));
        let begun = (numbers.draw() % 150) as i64 * DAY + (numbers.draw() % 1_440) as i64 * MINUTE;
        // As many visits as there is time for.
        let gap = (SPAN - begun) / i64::try_from(left).unwrap_or(i64::MAX).max(1);
        let mut story = Story { customer, numbers, at: begun, gap, left, items: Vec::new() };
        story.tell();
        story.items
    }

    fn events_of(&self, customer: u64) -> u64 {
        let upto = |customer: u64| {
            let (block, place) = (customer / 8, customer % 8);
            let turn = Numbers(block).draw() % 8;
            let within: u64 = (0..place).map(|n| WEIGHTS[((n + turn) % 8) as usize]).sum();
            u128::from(block * WEIGHTS_SUM + within)
        };
        let all = upto(self.customers).max(1);
        let more = u128::from(self.events.saturating_sub(self.customers));
        let share = |customer| more * upto(customer) / all;
        1 + (share(customer + 1) - share(customer)) as u64
    }
}

/// How a customer is called in an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum As {
    User,
    Cookie,
    /// Of another device.
    OtherCookie,
    /// By both: what joins them.
    UserAndCookie,
    UserAndOtherCookie,
    /// A user at a kiosk.
    UserAtKiosk,
}

/// A customer's half year, while it is told.
struct Story {
    customer: u64,
    numbers: Numbers,
    /// Milliseconds since the year began.
    at: i64,
    /// About the time between two events.
    gap: i64,
    /// Events that are to come.
    left: u64,
    items: Vec<Item>,
}

impl Story {
    fn roll(&mut self, sides: u64) -> u64 {
        self.numbers.draw() % sides
    }

    /// One of several, the first ones more often.
    fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        let sides = all.len() as u64;
        all[(self.roll(sides).min(self.roll(sides))) as usize]
    }

    fn tell(&mut self) {
        let kind = self.customer % 10;
        let (before, after) = match kind {
            0..=4 => (As::User, As::User),
            5 | 6 => (As::Cookie, As::Cookie),
            _ => (As::Cookie, As::User),
        };
        let is_known = after == As::User;
        let joins = before != after;
        // Who is joined is seen under the cookie first, if there is more than one event of it.
        if joins && self.left > 1 {
            self.visit(before, 1 + self.left / 4);
        }
        if is_known && self.left > 0 {
            let who = if joins { As::UserAndCookie } else { As::User };
            self.identify(who, kind >= 8);
        }
        if kind == 9 && self.left > 1 {
            self.visit(As::OtherCookie, 1);
            self.identify(As::UserAndOtherCookie, false);
        }
        if self.customer % 100 == 4 && self.left > 0 {
            self.page(1, As::UserAtKiosk);
        }
        while self.left > 0 {
            self.visit(after, self.left);
        }
        if self.customer.is_multiple_of(97) {
            self.write(1, after, "track", None, "{}", "{}", true);
        }
    }

    /// Goes on to another day.
    fn later(&mut self) {
        let most = (2 * self.gap).max(1) as u64;
        let wait = self.roll(most) as i64;
        self.at = (self.at + wait).min(SPAN - 3 * DAY);
    }

    fn identify(&mut self, who: As, with_email: bool) {
        self.later();
        let (country, age) = (self.one_of(&COUNTRIES), 18 + self.roll(60));
        let plan = ["free", "free", "pro", "team"][self.roll(4) as usize];
        let mut traits = format!(r#"{{"country":"{country}","age":{age},"plan":"{plan}""#);
        if with_email {
            let _fits = write!(traits, r#","email":"person{}@example.org""#, self.customer);
        }
        let (score, channel) = (self.roll(100), self.one_of(&CHANNELS));
        let _fits = write!(traits, r#","marketing":{{"score":{score},"channel":"{channel}"}}}}"#);
        let source = self.roll(3) as usize;
        self.write(source, who, "identify", None, &traits, "{}", false);
    }

    /// A visit of at most so many events.
    fn visit(&mut self, who: As, most: u64) {
        self.later();
        let end = self.left.saturating_sub(most);
        let source = if who == As::User { self.roll(3) as usize } else { 0 };
        let product = format!("{}-{}", self.one_of(&PRODUCTS), self.roll(5).min(self.roll(5)));
        if self.left > end && self.roll(3) == 0 {
            self.page(source, who);
        }
        if self.left > end {
            let price = 5 + self.roll(300);
            let properties =
                format!(r#"{{"product":"{product}","price":{price}.5,"rank":{}}}"#, self.roll(7));
            self.track(source, who, "Product Viewed", &properties, 30);
        }
        if self.left > end && self.roll(3) > 0 {
            let (quantity, cart) = (1 + self.roll(3), self.roll(1_000));
            let properties = format!(
                r#"{{"product":"{product}","quantity":{quantity},"cart":{{"id":"c{cart}","size":{}}}}}"#,
                self.roll(4)
            );
            self.track(source, who, "Product Added", &properties, 200);
        }
        if self.left > end && self.roll(2) == 0 {
            self.order(source, who, &product, end);
        }
        if self.left > end && self.roll(12) == 0 {
            let (topic, severity) = (self.one_of(&TOPICS), 1 + self.roll(3));
            let properties = format!(r#"{{"topic":"{topic}","severity":{severity}}}"#);
            self.track(1, who, "Support Ticket", &properties, 2_000);
        }
    }

    fn page(&mut self, source: usize, who: As) {
        self.at += 1 + self.roll(MINUTE as u64) as i64;
        let (path, seconds) = (self.one_of(&PATHS), self.roll(300));
        let properties = format!(r#"{{"path":"{path}","seconds":{seconds}}}"#);
        let context = self.context();
        self.write(source, who, "page", Some("Home"), &properties, &context, false);
    }

    fn order(&mut self, source: usize, who: As, product: &str, end: u64) {
        let (cents, quantity) = (500 + self.roll(50_000), 1 + self.roll(4));
        let (euros, order) = (self.roll(10) == 0, format!("o{}-{}", self.customer, self.items.len()));
        let currency = if euros { "EUR" } else { "USD" };
        let other = self.one_of(&PRODUCTS);
        let money = format!("{}.{:02}", cents / 100, cents % 100);
        let coupon = if self.roll(5) == 0 { r#""SPRING""# } else { "null" };
        let of = |quantity: u64| {
            format!(
                r#"{{"order_id":"{order}","product":"{product}","quantity":{quantity},"revenue":{money},"currency":"{currency}","coupon":{coupon},"items":[{{"sku":"{product}","count":{quantity}}},{{"sku":"{other}","count":1}}]}}"#
            )
        };
        if self.customer.is_multiple_of(61) {
            // Of nothing: the schema doesn't allow it.
            self.write(source, who, "track", Some("Order Completed"), &of(0), "{}", true);
        }
        self.track(source, who, "Order Completed", &of(quantity), 600);
        if self.left > end && self.roll(10) == 0 {
            let properties = format!(r#"{{"order_id":"{order}","product":"{product}","amount":"{money}"}}"#);
            self.track(1, who, "Order Refunded", &properties, 2_500);
        }
    }

    /// An event at most so many minutes after the one before.
    fn track(&mut self, source: usize, who: As, name: &str, properties: &str, minutes: u64) {
        self.at += 1 + self.roll(minutes * MINUTE as u64) as i64;
        let context = self.context();
        self.write(source, who, "track", Some(name), properties, &context, false);
    }

    fn context(&mut self) -> String {
        let (path, channel) = (self.one_of(&PATHS), self.one_of(&CHANNELS));
        format!(r#"{{"page":{{"path":"{path}"}},"campaign":{{"medium":"{channel}"}},"locale":"de-DE"}}"#)
    }

    #[expect(clippy::too_many_arguments, reason = "an event is many things")]
    fn write(
        &mut self,
        source: usize,
        who: As,
        kind: &str,
        name: Option<&str>,
        said: &str,
        context: &str,
        is_odd: bool,
    ) {
        let (n, number) = (self.customer, self.items.len());
        let mut json = format!(r#"{{"type":"{kind}","messageId":"m{n}-{number}""#);
        let mut put = |name: &str, value: &str| {
            let _fits = write!(json, r#","{name}":"{value}""#);
        };
        if matches!(who, As::User | As::UserAndCookie | As::UserAndOtherCookie | As::UserAtKiosk) {
            put("userId", &format!("u{n}"));
        }
        match who {
            As::User => {}
            As::Cookie | As::UserAndCookie => put("anonymousId", &format!("c{n}")),
            As::OtherCookie | As::UserAndOtherCookie => put("anonymousId", &format!("d{n}")),
            As::UserAtKiosk => put("anonymousId", &format!("kiosk{}", n / 5_000)),
        }
        if let Some(name) = name {
            put(if kind == "page" { "name" } else { "event" }, name);
        }
        put("timestamp", &time(self.at));
        let field = if kind == "identify" { "traits" } else { "properties" };
        let _fits = write!(json, r#","{field}":{said},"context":{context}}}"#);
        let is_late = self.numbers.draw().is_multiple_of(25);
        self.items.push(Item { source, is_late, is_odd, json });
        if !is_odd {
            self.left = self.left.saturating_sub(1);
        }
    }
}

/// Milliseconds since the year began, as text.
fn time(at: i64) -> String {
    let (mut day, mut month) = (at / DAY, 0);
    while day >= MONTHS[month] && month < MONTHS.len() - 1 {
        day -= MONTHS[month];
        month += 1;
    }
    let at = at % DAY;
    let (hour, minute, second) = (at / (60 * MINUTE), at / MINUTE % 60, at / 1_000 % 60);
    format!("2026-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", month + 1, day + 1, at % 1_000)
}
