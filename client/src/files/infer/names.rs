//! Which names columns of a kind go by.

/// The customer in the company's own system, the surest names first.
pub(super) const USER_ID: &[&str] = &[
    "userid",
    "customerid",
    "custid",
    "memberid",
    "clientid",
    "contactid",
    "accountid",
    "subscriberid",
    "personid",
    "uid",
    "userno",
    "customerno",
    "customernumber",
    "customernr",
    "membernumber",
    "kundennummer",
    "customer",
    "user",
    "member",
    "client",
    "account",
    "person",
];
/// The customer's device or browser.
pub(super) const ANONYMOUS_ID: &[&str] =
    &["anonymousid", "anonid", "cookieid", "visitorid", "deviceid", "browserid", "cookie", "visitor"];
/// E-mail addresses.
pub(super) const EMAIL: &[&str] = &["email", "emailaddress", "mail", "mailaddress", "e-mail"];
/// Telephone numbers.
pub(super) const PHONE: &[&str] = &[
    "phone",
    "phonenumber",
    "mobile",
    "mobilephone",
    "telephone",
    "tel",
    "cell",
    "cellphone",
    "msisdn",
    "telefon",
];
/// One of each row, made by whoever sent it.
pub(super) const MESSAGE_ID: &[&str] = &["messageid", "eventid", "msgid"];
/// When it happened.
pub(super) const TIME: &[&str] = &[
    "timestamp",
    "eventtime",
    "eventtimestamp",
    "occurredat",
    "happenedat",
    "time",
    "datetime",
    "orderdate",
    "orderedat",
    "purchasedate",
    "purchasedat",
    "transactiondate",
    "invoicedate",
    "date",
    "ts",
    "createdat",
    "created",
    "updatedat",
    "updated",
    "at",
    "datum",
];
/// What happened.
pub(super) const EVENT: &[&str] = &["event", "eventname", "action", "activity", "eventtype"];
/// Of which of the six kinds an event is.
pub(super) const EVENT_TYPE: &[&str] = &["type", "eventtype", "kind"];
/// What an order came to.
pub(super) const REVENUE: &[&str] = &[
    "revenue",
    "total",
    "ordertotal",
    "grandtotal",
    "totalprice",
    "totalamount",
    "amount",
    "sales",
    "price",
    "spend",
    "turnover",
    "umsatz",
    "betrag",
    "value",
    "sum",
];
/// Of which currency that is.
pub(super) const CURRENCY: &[&str] = &["currency", "currencycode"];
/// Words of orders, anywhere in a name.
pub(super) const ORDER_WORDS: &[&str] =
    &["order", "purchase", "transaction", "invoice", "product", "sku", "quantity"];
/// Words of times that are not when a row happened.
pub(super) const NOT_WHEN: &[&str] = &["birth", "dob", "expir", "valid", "until", "due"];

/// A name without what people write it with: `Customer_ID` and `customerId` are `customerid`.
pub(super) fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// How well a column's name fits a list: the place in it; names that only end so come behind all that are equal.
/// Nothing where it doesn't fit.
pub(super) fn rank(name: &str, list: &[&str]) -> Option<usize> {
    // `customer.id` is as good as `customer_id`.
    let last: Vec<&str> = name.rsplitn(3, '.').take(2).collect();
    let ways = [plain(last.first().unwrap_or(&name)), last.iter().rev().map(|part| plain(part)).collect()];
    let rank = |name: &String| {
        let whole = list.iter().position(|known| plain(known) == *name);
        whole.or_else(|| {
            // Short words end many others.
            let ends = list.iter().position(|known| known.len() > 3 && name.ends_with(&plain(known)));
            ends.map(|place| list.len() + place)
        })
    };
    ways.iter().filter_map(rank).min()
}

/// Whether a name, or the last part of a path, is one of a list.
pub(super) fn is_one_of(name: &str, list: &[&str]) -> bool {
    rank(name, list).is_some_and(|place| place < list.len())
}

/// Whether one of the words is in a name.
pub(super) fn has_word(name: &str, words: &[&str]) -> bool {
    let name = plain(name);
    words.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_however_they_are_written() {
        assert_eq!(rank("User-ID", USER_ID), Some(0));
        assert_eq!(rank("account.userId", USER_ID), Some(0));
        assert_eq!(rank("data.customer.id", USER_ID), Some(1));
        assert_eq!(rank("shop_customer_id", USER_ID), Some(USER_ID.len() + 1));
        assert_eq!(rank("liquid", USER_ID), None);
        assert!(rank("e_mail", EMAIL).is_some() && rank("billing_email", EMAIL).is_some());
        assert!(has_word("date_of_birth", NOT_WHEN) && !has_word("created", NOT_WHEN));
    }
}
