//! The web console's pages: what a node knows, as HTML.
//!
//! **What it promises.** A page is a function of what it is told and of nothing else: no clock, no network. Whatever comes
//! from outside (traits, identifiers, names of events and sources, what was sent) is escaped where it is put in; the one
//! way around that, `PreEscaped`, is not used. Pages are read without JavaScript: with it, what is live follows by itself,
//! and charts can be looked into. They load nothing from elsewhere, and hold neither inline scripts nor inline styles, so
//! that the strictest [`CONTENT_SECURITY_POLICY`] fits.
//!
//! **How.** A file for each page; `page` is the frame around all of them. What the public interface has (nodes,
//! profiles' events, quarantine entries) comes as its messages; the rest has types here. [`assets`] are the files that
//! pages refer to, embedded, under names that change with their content.
//!
//! **What it leaves out.** Who may look, and where the answers come from: that is `isthmus-node`'s `http::console`.
//! Languages other than English.

pub mod assets;
pub mod customer;
pub mod customers;
pub mod failure;
pub mod ingest;
mod mark;
pub mod overview;
mod page;
pub mod quarantine;
mod show;
mod spark;
pub mod sql;
mod time;

pub use self::page::{Section, Shell, Theme};

/// What a page may load and do: its own files, and forms to its own node.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
