//! What Flight SQL tells of the hub: its catalog, its tables, itself.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{ArrayRef, Int32Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
};
use arrow_flight::{
    IpcMessage, SchemaAsIpc,
    sql::{
        CommandGetCatalogs, CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTableTypes,
        CommandGetTables, SqlInfo, SqlNullOrdering, SqlSupportedCaseSensitivity, SqlSupportedTransaction,
        metadata::{SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfoData, XdbcTypeInfoDataBuilder},
    },
};
use bytes::Bytes;
use isthmus_query::TableInfo;
use tonic::Status;

use super::unwritable;
use crate::version::VERSION;

/// The catalog's name.
pub const CATALOG: &str = "isthmus";

fn broken(error: arrow_flight::error::FlightError) -> Status {
    Status::from(error)
}

/// What the hub says of itself.
///
/// # Errors
/// A defect of what is said.
pub fn about() -> Result<SqlInfoData, ArrowError> {
    let mut about = SqlInfoDataBuilder::new();
    about.append(SqlInfo::FlightSqlServerName, "Isthmus");
    about.append(SqlInfo::FlightSqlServerVersion, VERSION);
    // Of the columnar format, not of a library.
    about.append(SqlInfo::FlightSqlServerArrowVersion, "1.5");
    about.append(SqlInfo::FlightSqlServerReadOnly, true);
    about.append(SqlInfo::FlightSqlServerSql, true);
    about.append(SqlInfo::FlightSqlServerSubstrait, false);
    about.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    about.append(SqlInfo::FlightSqlServerCancel, true);
    about.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    about.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    about.append(SqlInfo::SqlDdlCatalog, false);
    about.append(SqlInfo::SqlDdlSchema, false);
    about.append(SqlInfo::SqlDdlTable, false);
    let unquoted = SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i64;
    about.append(SqlInfo::SqlIdentifierCase, unquoted);
    about.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    // What is quoted stays as it is: the protocol has no word for that.
    let quoted = SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i64;
    about.append(SqlInfo::SqlQuotedIdentifierCase, quoted);
    about.append(SqlInfo::SqlAllTablesAreSelectable, true);
    about.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i64);
    about.append(SqlInfo::SqlSupportsColumnAliasing, true);
    about.append(SqlInfo::SqlNullPlusNullIsNull, true);
    about.append(SqlInfo::SqlSchemaTerm, "schema");
    about.append(SqlInfo::SqlCatalogTerm, "catalog");
    about.append(SqlInfo::SqlCatalogAtStart, true);
    about.append(SqlInfo::SqlTransactionsSupported, false);
    about.append(SqlInfo::SqlSelectForUpdateSupported, false);
    about.append(SqlInfo::SqlStoredProceduresSupported, false);
    about.append(SqlInfo::SqlCorrelatedSubqueriesSupported, true);
    about.append(SqlInfo::SqlNamedParametersSupported, false);
    about.build().map_err(|error| ArrowError::ExternalError(Box::new(error)))
}

/// Types by their JDBC numbers: none is told, as Arrow's are what counts.
pub fn types() -> Result<XdbcTypeInfoData, Status> {
    XdbcTypeInfoDataBuilder::new().build().map_err(broken)
}

pub fn catalogs(command: CommandGetCatalogs) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    builder.append(CATALOG);
    builder.build().map_err(broken)
}

pub fn schemas(command: CommandGetDbSchemas, tables: &[TableInfo]) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    let mut names: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        builder.append(CATALOG, name);
    }
    builder.build().map_err(broken)
}

pub fn tables(command: CommandGetTables, tables: &[TableInfo]) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    for table in tables {
        builder.append(CATALOG, &table.schema, &table.name, table.kind, &table.columns).map_err(broken)?;
    }
    builder.build().map_err(broken)
}

pub fn table_types(command: CommandGetTableTypes, tables: &[TableInfo]) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    let mut kinds: Vec<&str> = tables.iter().map(|table| table.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        builder.append(kind);
    }
    builder.build().map_err(broken)
}

fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

static PRIMARY_KEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("column_name", false),
        text("key_name", true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
});

static FOREIGN_KEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
});

/// The columns of a table's key, which has no name; none of a table that there isn't.
pub fn primary_keys(command: &CommandGetPrimaryKeys, tables: &[TableInfo]) -> Result<RecordBatch, Status> {
    let is = |asked: &Option<String>, known: &str| asked.as_ref().is_none_or(|asked| asked == known);
    let asked = tables.iter().filter(|table| {
        table.name == command.table
            && is(&command.catalog, &table.catalog)
            && is(&command.db_schema, &table.schema)
    });
    let columns: Vec<(&TableInfo, &str, i32)> = asked
        .flat_map(|table| table.key.iter().zip(1..).map(move |(column, at)| (table, *column, at)))
        .collect();
    let texts = |of: &dyn Fn(&TableInfo) -> String| -> ArrayRef {
        Arc::new(columns.iter().map(|(table, ..)| Some(of(table))).collect::<StringArray>())
    };
    let arrays: Vec<ArrayRef> = vec![
        texts(&|table| table.catalog.clone()),
        texts(&|table| table.schema.clone()),
        texts(&|table| table.name.clone()),
        Arc::new(columns.iter().map(|(_, column, _)| Some(*column)).collect::<StringArray>()),
        Arc::new(StringArray::new_null(columns.len())),
        Arc::new(columns.iter().map(|(.., at)| Some(*at)).collect::<Int32Array>()),
    ];
    RecordBatch::try_new(PRIMARY_KEYS.clone(), arrays).map_err(unwritable)
}

/// The columns of keys that lead from table to table, of which there are none.
pub fn foreign_keys() -> RecordBatch {
    RecordBatch::new_empty(FOREIGN_KEYS.clone())
}

/// A schema as messages have it.
pub fn schema_bytes(schema: &Schema) -> Result<Bytes, Status> {
    let options = arrow::ipc::writer::IpcWriteOptions::default();
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &options).try_into().map_err(unwritable)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(schema: &str, name: &str) -> TableInfo {
        TableInfo {
            catalog: CATALOG.to_owned(),
            schema: schema.to_owned(),
            name: name.to_owned(),
            kind: "TABLE",
            columns: Arc::new(Schema::new(vec![text("a", true)])),
            key: &["a", "b"],
        }
    }

    #[test]
    fn a_table_is_told_with_its_key() {
        let known = [table("public", "nodes"), table("system", "nodes"), table("system", "shards")];
        let asked = |catalog: Option<&str>, db_schema: Option<&str>, table: &str| {
            let [catalog, db_schema] = [catalog, db_schema].map(|name| name.map(str::to_owned));
            let command = CommandGetPrimaryKeys { catalog, db_schema, table: table.to_owned() };
            let keys = primary_keys(&command, &known).unwrap();
            let text = |at: usize| {
                let column = keys.column(at).as_any().downcast_ref::<StringArray>().unwrap();
                column.iter().map(|text| text.unwrap_or("-").to_owned()).collect::<Vec<_>>()
            };
            let places = keys.column(5).as_any().downcast_ref::<Int32Array>().unwrap().values().to_vec();
            ([1, 2, 3, 4].map(text), places)
        };
        let (texts, places) = asked(Some(CATALOG), Some("system"), "nodes");
        assert_eq!(texts, [["system"; 2], ["nodes"; 2], ["a", "b"], ["-"; 2]]);
        assert_eq!(places, [1, 2]);
        assert_eq!(asked(None, None, "nodes").1, [1, 2, 1, 2]);
        for (catalog, schema, table) in
            [(Some("other"), None, "nodes"), (None, Some("public"), "shards"), (None, None, "node%")]
        {
            assert_eq!(asked(catalog, schema, table).1, [0; 0], "{table}");
        }
    }

    #[test]
    fn tables_are_listed_by_pattern() {
        let known = [table("public", "events"), table("public", "profiles"), table("system", "nodes")];
        let asked = |pattern: &str| {
            let command = CommandGetTables {
                catalog: None,
                db_schema_filter_pattern: None,
                table_name_filter_pattern: Some(pattern.to_owned()),
                table_types: Vec::new(),
                include_schema: true,
            };
            tables(command, &known).unwrap().num_rows()
        };
        assert_eq!((asked("%"), asked("eve%"), asked("no_e_"), asked("x")), (3, 1, 1, 0));
        let all = CommandGetDbSchemas { catalog: None, db_schema_filter_pattern: None };
        assert_eq!(schemas(all, &known).unwrap().num_rows(), 2);
        assert_eq!(table_types(CommandGetTableTypes {}, &known).unwrap().num_rows(), 1);
        assert_eq!(catalogs(CommandGetCatalogs {}).unwrap().num_rows(), 1);
    }

    #[test]
    fn what_is_said_of_the_hub_can_be_written() {
        let name = about().unwrap().record_batch([SqlInfo::FlightSqlServerName as u32]).unwrap();
        assert_eq!(name.num_rows(), 1);
        assert!(types().is_ok() && !schema_bytes(&PRIMARY_KEYS).unwrap().is_empty());
        assert_eq!(foreign_keys().num_rows(), 0);
    }
}
