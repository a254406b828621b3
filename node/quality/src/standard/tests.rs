//! Tests of single rules, by example.

use isthmus_domain::value::json;

use super::*;

fn rule(spec: &str) -> Rule {
    Rule::read(&json::parse(spec.as_bytes()).unwrap(), "").unwrap()
}

fn applied(rule: &Rule, sent: &str) -> Option<String> {
    let made = rule.apply(&json::parse(sent.as_bytes()).unwrap())?;
    Some(String::from_utf8(made.to_json()).unwrap())
}

#[test]
fn each_rule_makes_one_spelling_of_many() {
    for (spec, sent, made) in [
        (r#""trim""#, r#"" e\u0301 ""#, r#""é""#),
        (r#"{"rule":"case","to":"lower"}"#, r#""ÄB""#, r#""äb""#),
        (r#"{"rule":"case","to":"upper"}"#, r#""straße""#, r#""STRASSE""#),
        (r#""email""#, r#"" Ada@Example.ORG ""#, r#""ada@example.org""#),
        (r#"{"rule":"phone","region":"de"}"#, r#""0171 123 45 67""#, r#""+491711234567""#),
        (r#"{"rule":"phone","region":"DE"}"#, r#""+49 (0)171 / 1234567""#, r#""+491711234567""#),
        (r#"{"rule":"phone","region":"DE"}"#, r#""0033 1 42 68 53 00""#, r#""+33142685300""#),
        (r#"{"rule":"phone","region":"US"}"#, "2125550123", r#""+12125550123""#),
        (r#""date""#, r#""1990-12-31""#, r#""1990-12-31""#),
        (r#""date""#, r#""2024-05-31T20:00:00+02:00""#, r#""2024-05-31T18:00:00Z""#),
        (r#""date""#, r#""2024-05-31 18:00:00""#, r#""2024-05-31T18:00:00Z""#),
        (r#"{"rule":"date","formats":["%d.%m.%Y"]}"#, r#""31.12.1990""#, r#""1990-12-31""#),
        (
            r#"{"rule":"date","formats":["%d.%m.%Y %H:%M"]}"#,
            r#""31.12.1990 07:05""#,
            r#""1990-12-31T07:05:00Z""#,
        ),
        (r#""country""#, r#""germany""#, r#""DE""#),
        (r#""country""#, r#""deu""#, r#""DE""#),
        (r#""country""#, r#""276""#, r#""DE""#),
        (r#"{"rule":"country","to":"alpha3"}"#, r#""de""#, r#""DEU""#),
        (r#""currency""#, r#"" eur""#, r#""EUR""#),
        (r#""number""#, r#""1,234.50""#, "1234.5"),
        (r#""number""#, r#""-7.00""#, "-7"),
        (r#""number""#, "5.0", "5.0"),
        (r#""number""#, r#""18446744073709551615""#, "18446744073709551615"),
        (r#"{"rule":"number","decimal":","}"#, r#""1.234.567,5""#, "1234567.5"),
        (r#"{"rule":"number","decimal":","}"#, r#""1 234""#, "1234"),
        (
            r#"{"rule":"enumeration","values":{"pro":["Professional"],"free":[]}}"#,
            r#"" PROFESSIONAL""#,
            r#""pro""#,
        ),
        (r#"{"rule":"pattern","regex":"^[0-9]{5}$"}"#, "10115", r#""10115""#),
        (r#"{"rule":"pattern","regex":"^D-([0-9]{5})$","replace":"$1"}"#, r#""D-10115""#, r#""10115""#),
    ] {
        assert_eq!(applied(&rule(spec), sent).as_deref(), Some(made), "{spec} {sent}");
    }
}

#[test]
fn what_a_rule_cannot_take_it_does_not_guess() {
    for (spec, sent) in [
        (r#""trim""#, "7"),
        (r#"{"rule":"case","to":"lower"}"#, "[]"),
        (r#""email""#, r#""ada@localhost""#),
        (r#""email""#, r#""not an address""#),
        (r#""email""#, r#""Ada <ada@example.org>""#),
        (r#""phone""#, r#""0171 1234567""#),
        (r#"{"rule":"phone","region":"DE"}"#, r#""12""#),
        (r#"{"rule":"phone","region":"US"}"#, r#""1-800-FLOWERS""#),
        (
            r#"{"rule":"phone","region":"DE"}"#,
            r#""+49171123456789012345678901234567890123456789012345678901234567890""#,
        ),
        (r#""date""#, r#""31.12.1990""#),
        (r#""date""#, r#""19901231""#),
        (r#""date""#, "631152000"),
        (r#""date""#, r#""2024-02-30""#),
        (r#""country""#, r#""XX""#),
        (r#""country""#, r#""Atlantis""#),
        (r#""currency""#, r#""€""#),
        (r#""number""#, r#""1.234,50""#),
        (r#""number""#, r#""12,34""#),
        (r#""number""#, r#""1e5""#),
        (r#""number""#, r#""18446744073709551616""#),
        (r#""number""#, r#""0.12345678901234567891""#),
        (r#""number""#, r#""""#),
        (r#"{"rule":"enumeration","values":{"pro":[]}}"#, r#""basic""#),
        (r#"{"rule":"pattern","regex":"^[0-9]{5}$"}"#, r#""1011""#),
    ] {
        assert_eq!(applied(&rule(spec), sent), None, "{spec} {sent}");
    }
}

#[test]
fn a_rule_that_makes_no_sense_is_refused_with_its_place() {
    let bomb = format!(r#"{{"rule":"pattern","regex":"{}"}}"#, "(a{1,100}){1,100}".repeat(5));
    for (spec, at, what) in [
        ("7", "", "rule's name"),
        (r#""trimm""#, "", "there is no rule"),
        (r#"{"to":"lower"}"#, "", "rule is missing"),
        (r#"{"rule":"trim","to":"lower"}"#, "/to", "not known"),
        (r#"{"rule":"case"}"#, "/to", "lower or upper"),
        (r#"{"rule":"phone","region":"Atlantis"}"#, "/region", "no region"),
        (r#"{"rule":"date","formats":["%q"]}"#, "/formats/0", "no format"),
        (r#"{"rule":"date","formats":["today"]}"#, "/formats/0", "no format"),
        (r#"{"rule":"number","decimal":";"}"#, "/decimal", "point or a comma"),
        (r#"{"rule":"enumeration","values":{}}"#, "/values", "is missing"),
        (r#"{"rule":"enumeration","values":{"a":["x"],"b":["X"]}}"#, "/values/b/0", "also stands for"),
        (r#"{"rule":"pattern"}"#, "/regex", "is missing"),
        (r#"{"rule":"pattern","regex":"(a"}"#, "/regex", "unclosed group"),
        (r#"{"rule":"pattern","regex":"(?=a)"}"#, "/regex", "look-around"),
        (bomb.as_str(), "/regex", "size limit"),
    ] {
        let read = Rule::read(&json::parse(spec.as_bytes()).unwrap(), "");
        let Err(fault) = read else { panic!("{spec} was taken") };
        assert!(fault.at == at && fault.what.contains(what), "{spec}: {fault}");
    }
}
