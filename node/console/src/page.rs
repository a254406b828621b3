//! The frame around every page: head, ways to the other pages, search, foot.

use maud::{DOCTYPE, Markup, html};

use crate::{assets, mark::mark};

/// Light or dark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// As the browser prefers.
    #[default]
    System,
    /// Light, whatever the browser prefers.
    Light,
    /// Dark, whatever the browser prefers.
    Dark,
}

impl Theme {
    const ALL: [Self; 3] = [Self::System, Self::Light, Self::Dark];

    /// Its name, in the cookie and in the form that sets it.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    /// The theme of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|theme| theme.name() == name)
    }
}

/// The parts of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// How the cluster is.
    Overview,
    /// What comes in.
    Ingest,
    /// Who is known.
    Customers,
    /// What could not be taken.
    Quarantine,
    /// Questions in SQL.
    Sql,
    /// None of them: a failure.
    None,
}

impl Section {
    const SHOWN: [(Self, &'static str, &'static str); 5] = [
        (Self::Overview, "/", "Overview"),
        (Self::Ingest, "/ingest", "Ingest"),
        (Self::Customers, "/customers", "Customers"),
        (Self::Quarantine, "/quarantine", "Quarantine"),
        (Self::Sql, crate::sql::PATH, "SQL"),
    ];
}

/// What every page needs to know.
#[derive(Clone, Debug)]
pub struct Shell<'a> {
    /// Light or dark.
    pub theme: Theme,
    /// What was searched for, to be shown in the field; empty: nothing.
    pub query: &'a str,
    /// The node that answers; 0 when it isn't to be told.
    pub node: u32,
    /// The version of its software.
    pub version: &'a str,
    /// What forms send with them, so that the node knows that they are from a page of its own.
    pub form_token: &'a str,
    /// The path of this page with its query, to come back to.
    pub here: &'a str,
    /// Now, microseconds since 1970.
    pub now: i64,
}

impl Shell<'_> {
    /// What every form holds that changes something.
    pub(crate) fn token(&self) -> Markup {
        html! { input type="hidden" name="token" value=(self.form_token); }
    }

    /// A whole page. `live_ms` is after how many milliseconds it is to be asked for anew; `None`: never.
    pub(crate) fn page(&self, section: Section, title: &str, live_ms: Option<u32>, main: Markup) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" data-theme=(self.theme.name()) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) " · Isthmus" }
                    link rel="icon" type="image/svg+xml" href=(assets::path("icon.svg"));
                    link rel="stylesheet" href=(assets::path("uplot.css"));
                    link rel="stylesheet" href=(assets::path("console.css"));
                    script src=(assets::path("uplot.js")) defer {}
                    script src=(assets::path("console.js")) defer {}
                }
                body {
                    a.skip href="#main" { "Skip to the content" }
                    (self.head(section))
                    main #main tabindex="-1" data-live=[live_ms] { (main) }
                    (self.foot(live_ms.is_some()))
                }
            }
        };
        page.into_string()
    }

    fn head(&self, section: Section) -> Markup {
        html! {
            header.top {
                div.bar {
                    a.brand href="/" aria-label="Isthmus, overview" { (mark()) span { "Isthmus" } }
                    nav aria-label="Parts of the console" {
                        ul {
                            @for (known, path, name) in Section::SHOWN {
                                li { a href=(path) aria-current=[(known == section).then_some("page")] { (name) } }
                            }
                        }
                    }
                    form.search role="search" action="/customers" method="get" {
                        label.hidden for="search" { "Find a customer by any identifier" }
                        span.field {
                        input #search type="search" name="q" value=(self.query) autocomplete="off"
                            autocapitalize="none" spellcheck="false" maxlength="1024"
                            placeholder="Find by any identifier" aria-keyshortcuts="/";
                        kbd aria-hidden="true" { "/" }
                        }
                        button type="submit" { "Find" }
                    }
                    (self.themes())
                }
            }
        }
    }

    /// Works without JavaScript: a form, answered with a cookie and the way back.
    fn themes(&self) -> Markup {
        html! {
            form.themes action="/theme" method="post" aria-label="Light or dark" {
                (self.token())
                input type="hidden" name="back" value=(self.here);
                @for (theme, label, sign) in [
                    (Theme::Light, "Light", SUN),
                    (Theme::System, "As the system", HALF),
                    (Theme::Dark, "Dark", MOON),
                ] {
                    button type="submit" name="theme" value=(theme.name()) title=(label) aria-label=(label)
                        aria-pressed=(self.theme == theme) {
                        svg viewBox="0 0 20 20" width="16" height="16" aria-hidden="true" focusable="false" {
                            path d=(sign) {}
                        }
                    }
                }
            }
        }
    }

    fn foot(&self, live: bool) -> Markup {
        html! {
            footer {
                div.bar {
                    p {
                        @if self.node > 0 { "Answered by node " (self.node) " · " }
                        (self.version)
                    }
                    @if live { p #live role="status" data-live-status {} }
                    p { "Shown on this machine alone: there is no access control yet." }
                }
            }
        }
    }
}

const SUN: &str = "M10 6a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM9.200 1h1.600v3H9.200zM9.200 16h1.600v3H9.200zM1 9.200h3v1.600H1zM16 9.200h3v1.600h-3zM3.100 4.200l1.100-1.100 2.100 2.100-1.100 1.100zM13.700 14.800l1.100-1.100 2.100 2.100-1.100 1.100zM3.100 15.800l2.100-2.100 1.100 1.100-2.100 2.100zM13.700 5.200l2.100-2.100 1.100 1.100-2.100 2.100z";
const HALF: &str =
    "M10 1.500a8.500 8.500 0 1 1 0 17 8.500 8.500 0 0 1 0-17zm0 1.800v13.400a6.700 6.700 0 0 0 0-13.400z";
const MOON: &str = "M8 2.200a8 8 0 1 0 9.800 9.800A6.600 6.600 0 0 1 8 2.200z";

/// A heading with its number or what else stands beside it.
pub(crate) fn heading(id: &str, text: &str, aside: Markup) -> Markup {
    html! {
        div.heading { h2 id=(id) { (text) } span.aside { (aside) } }
    }
}

/// What stands where there is nothing to show: what that means, and what to do.
pub(crate) fn nothing(title: &str, what_to_do: Markup) -> Markup {
    html! {
        div.nothing { p.lead { (title) } (what_to_do) }
    }
}
