//! Two bundles become one: the larger root gives its place up and ships what it knows, part by part.

use isthmus_domain::FacetId;
use isthmus_domain::identity::fold_row;
use isthmus_proto::internal::v1::{
    Continue, Piece as WirePiece, Ship, ToRoot, Unite, identity_message::Body, to_root::Body as RootBody,
};

use super::pieces::{FOLD, Pieces, Read, add_row, change, read};
use super::{Piece, Root, Told};
use crate::resolver::{bytes, facet};
use crate::{Error, Resolver, Store, keys};

/// Rows in one part.
const PART_ROWS: usize = 256;

impl<S: Store> Resolver<'_, S> {
    /// The bundle of `with` and the receiver's are to be one.
    pub(crate) fn unite(&mut self, own: FacetId, with: FacetId) -> Result<(), Error> {
        let record = self.record(&own)?;
        if let Some(parent) = record.parent() {
            self.send(&parent, Body::Unite(Unite { with: bytes(&with) }));
            return Ok(());
        }
        if own == with {
            return Ok(());
        }
        if with < own {
            let root = self.root(own)?;
            self.give_up(own, root, with)
        } else {
            let root = self.root(own)?;
            self.keep_root(own, root)?;
            self.send(&with, Body::Unite(Unite { with: bytes(&own) }));
            Ok(())
        }
    }

    /// Goes on with work that was cut into steps.
    pub(crate) fn go_on(&mut self, own: FacetId) -> Result<(), Error> {
        let record = self.record(&own)?;
        if !record.is_root {
            return Ok(());
        }
        if record.parent().is_some() {
            return self.ship(own);
        }
        let mut root = self.root(own)?;
        root.stepping = false;
        root.unwritten.insert(Piece::Head);
        self.refold(own, &mut root)?;
        self.keep_root(own, root)
    }

    /// Ships what a root knows to one that is smaller, which is its parent from now on.
    pub(super) fn give_up(&mut self, own: FacetId, mut root: Box<Root>, with: FacetId) -> Result<(), Error> {
        let prefix = keys::root(&own, &[]);
        let stored = self.store.scan(&prefix, None, PART_ROWS + 1)?;
        if stored.len() > PART_ROWS {
            // The parts are cut from the rows, so all of it is stored.
            self.store_root(&own, &mut root)?;
            let mut record = self.record(&own)?;
            record.parent = bytes(&with);
            self.save(&own, &record)?;
            return self.ship(own);
        }
        let mut pieces = Pieces::new();
        for (key, value) in stored {
            add_row(&mut pieces, &key[prefix.len()..], value)?;
            self.store.put(key, None)?;
        }
        change(&mut pieces, root.take_writes());
        let mut record = self.record(&own)?;
        record.parent = bytes(&with);
        record.is_root = false;
        record.shipped = record.shipped.saturating_add(1);
        let pieces = pieces.into_iter().map(|(key, value)| WirePiece { key: key.into(), value });
        let ship = Ship { from: bytes(&own), pieces: pieces.collect(), parts: record.shipped };
        self.send(&with, Body::ToRoot(ToRoot { body: Some(RootBody::Ship(ship)) }));
        self.save(&own, &record)
    }

    /// Ships the next part of what a root knew, and forgets it.
    fn ship(&mut self, own: FacetId) -> Result<(), Error> {
        let mut record = self.record(&own)?;
        let Some(parent) = record.parent() else { return Ok(()) };
        let prefix = keys::root(&own, &[]);
        let mut rows = self.store.scan(&prefix, None, PART_ROWS + 1)?;
        let more = rows.len() > PART_ROWS;
        rows.truncate(PART_ROWS);
        record.shipped = record.shipped.saturating_add(1);
        let mut pieces = Pieces::new();
        for (key, value) in rows {
            add_row(&mut pieces, &key[prefix.len()..], value)?;
            self.store.put(key, None)?;
        }
        let pieces = pieces.into_iter().map(|(key, value)| WirePiece { key: key.into(), value }).collect();
        record.is_root = more;
        let parts = if more { 0 } else { record.shipped };
        let ship = Ship { from: bytes(&own), pieces, parts };
        self.send(&parent, Body::ToRoot(ToRoot { body: Some(RootBody::Ship(ship)) }));
        if more {
            self.send_later(&own, Body::Continue(Continue {}));
        }
        self.save(&own, &record)
    }

    /// Takes in a part of what another root knew. Folding waits for the last.
    pub(super) fn take_in(&mut self, own: FacetId, root: &mut Root, ship: Ship) -> Result<(), Error> {
        for piece in &ship.pieces {
            if piece.key.first() == Some(&FOLD) {
                if let Some((key, row)) = fold_row(&piece.key[1..], &piece.value)?
                    && row.version() > root.version_of(&key)
                {
                    // Its ends have agreed: they are members, who come behind.
                    root.put_row(key, row.version(), row.fact().cloned())?;
                }
                continue;
            }
            match read(&piece.key, &piece.value)? {
                Read::Head(head) => root.absorb_head(*head)?,
                Read::Member(member, home, since) => {
                    root.set_member(member, home, since);
                    root.unsure.insert(member);
                    if let Some(told) = root.homes.get_mut(&home) {
                        told.by_us = false;
                        root.unwritten.insert(Piece::Home(home));
                    }
                }
                Read::Home(home, told) => {
                    let known = root.homes.entry(home).or_default();
                    let (epoch, active) = (known.epoch.max(told.epoch), known.active.max(told.active));
                    *known = Told { epoch, active, by_us: false };
                    root.unwritten.insert(Piece::Home(home));
                }
                Read::Waiting(key, version, fact) => {
                    if version > root.version_of(&key) {
                        self.new_row(own, root, key, version, fact)?;
                    }
                }
                Read::Flag(about, version, shared) => {
                    if version > root.flags.get(&about).map_or(0, |(known, _)| *known) {
                        let awaited = root.awaited.remove(&about).unwrap_or_default();
                        root.set_flag(about, version, shared, awaited);
                    }
                }
            }
        }
        root.arrived(facet(&ship.from)?, 1, ship.parts);
        self.refold(own, root)
    }
}
