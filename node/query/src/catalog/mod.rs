//! The catalog that a statement is planned against: `isthmus.public`, `isthmus.system`, and `information_schema` of these.

mod about;

use std::sync::Arc;

use datafusion::{
    catalog::{
        CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
        MemorySchemaProvider, SchemaProvider, TableProvider,
    },
    common::Result,
};

use crate::{
    answer::TableInfo,
    seam::{Shards, Table},
    tables::{
        ProfilesTable, SYSTEM_TABLES, ShardTable, SystemTable, events, facet_raw, identifiers, link_facts,
        member, profiles, quarantine, segment_members, told,
    },
};

/// The catalog's name.
pub(crate) const CATALOG: &str = "isthmus";
/// The schema that names without one are looked up in.
pub(crate) const PUBLIC: &str = "public";
const SYSTEM: &str = "system";

type Named = (&'static str, Arc<dyn TableProvider>);

fn public(host: &Arc<dyn Shards>) -> Result<Vec<Named>> {
    let catalog = host.catalog();
    let of = |name, table, outs| ShardTable::new(name, table, outs, Arc::clone(host));
    Ok(vec![
        ("profiles", Arc::new(ProfilesTable::new(&profiles(&catalog), host)?)),
        ("events", Arc::new(of("events", Table::Events, events(&catalog)))),
        (
            "identifiers",
            Arc::new(of("identifiers", Table::Facets, identifiers()).where_present(facet_raw::NAMESPACE)),
        ),
        ("link_facts", Arc::new(of("link_facts", Table::LinkFacts, link_facts()))),
        (
            "segment_members",
            Arc::new(
                of("segment_members", Table::SegmentMembers, segment_members()).where_present(member::INSIDE),
            ),
        ),
        (
            "segment_overflows",
            Arc::new(
                of("segment_overflows", Table::SegmentMembers, segment_members())
                    .where_present(member::OVERFLOW),
            ),
        ),
        ("quarantine", Arc::new(of("quarantine", Table::Quarantine, quarantine()))),
    ])
}

fn system(host: &Arc<dyn Shards>) -> Vec<Named> {
    let table = |name| -> Named { (name, Arc::new(SystemTable::new(name, Arc::clone(host)))) };
    SYSTEM_TABLES.into_iter().map(table).collect()
}

/// The catalog as of now.
pub(crate) fn catalog(host: &Arc<dyn Shards>) -> Result<Arc<dyn CatalogProviderList>> {
    let catalog = MemoryCatalogProvider::new();
    for (name, tables) in [(PUBLIC, public(host)?), (SYSTEM, system(host))] {
        let schema = MemorySchemaProvider::new();
        for (name, table) in tables {
            schema.register_table(name.to_owned(), table)?;
        }
        catalog.register_schema(name, Arc::new(schema))?;
    }
    let list = MemoryCatalogProviderList::new();
    list.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
    Ok(Arc::new(list))
}

/// What is in it, for clients that browse.
pub(crate) fn tables(host: &Arc<dyn Shards>) -> Result<Vec<TableInfo>> {
    let catalog = host.catalog();
    let info = |schema: &'static str, kind| {
        let catalog = &catalog;
        move |(name, table): Named| {
            let about = about::about(schema, name);
            TableInfo {
                catalog: CATALOG.to_owned(),
                schema: schema.to_owned(),
                name: name.to_owned(),
                kind,
                columns: about.tell(&told(&table.schema()), catalog),
                key: about.key,
            }
        }
    };
    let public = public(host)?.into_iter().map(info(PUBLIC, "TABLE"));
    Ok(public.chain(system(host).into_iter().map(info(SYSTEM, "VIEW"))).collect())
}
