//! What a configuration may say, and what it means when it says nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use isthmus_matching::{Config, ConfigError, Kind, TraitConfig};

fn names() -> Config {
    Config::of(vec![TraitConfig::new("one", Kind::Name), TraitConfig::new("two", Kind::Name)])
}

#[test]
fn the_default_is_complete_and_a_file_may_say_as_little_as_the_traits() {
    assert!(Config::default().plan().is_ok());
    let text = "[[traits]]\nname = \"lastName\"\nkind = \"name\"\n";
    let config: Config = toml::from_str(text).unwrap();
    assert_eq!(config, Config::of(vec![TraitConfig::guess("lastName").unwrap()]));
    assert!(config.plan().is_ok());
}

#[test]
fn a_configuration_comes_back_from_its_file() {
    let mut config = names();
    config.traits[0].close_at = Some(0.95);
    config.traits[1].swaps_with = Some(String::new());
    let text = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<Config>(&text).unwrap(), config);
}

#[test]
fn unknown_keys_are_refused() {
    for text in [
        "link_from = 0.9",
        "[[traits]]\nname = \"a\"\nkind = \"name\"\nweight = 2",
        "[[traits]]\nname = \"a\"\nkind = \"nome\"",
    ] {
        assert!(toml::from_str::<Config>(text).is_err(), "{text}");
    }
}

#[test]
fn names_say_their_kinds() {
    for (name, kind) in [
        ("firstName", Some(Kind::Name)),
        ("date_of_birth", Some(Kind::Date)),
        ("address.postalCode", Some(Kind::Postcode)),
        ("Suburb", Some(Kind::Place)),
        ("favouriteColour", None),
        ("", None),
    ] {
        assert_eq!(Kind::guess(name), kind, "{name}");
    }
}

type Change = fn(&mut Config);

#[test]
fn numbers_out_of_range_are_refused_by_name() {
    let changes: [(&str, Change); 10] = [
        ("link_at", |c| c.link_at = 0.0),
        ("link_at", |c| c.link_at = f64::NAN),
        ("review_at", |c| c.review_at = 0.95),
        ("block_members_max", |c| c.block_members_max = 1),
        ("window", |c| c.window = 0),
        ("random_pairs", |c| c.random_pairs = 10),
        ("training_pairs_max", |c| c.training_pairs_max = u32::MAX),
        ("duplicates_expected", |c| c.duplicates_expected = 0.0),
        ("close_at", |c| c.traits[0].close_at = Some(1.5)),
        ("similar_at", |c| c.traits[0].similar_at = Some(0.99)),
    ];
    for (name, change) in changes {
        let mut config = names();
        change(&mut config);
        let refused = config.plan().unwrap_err();
        assert!(matches!(refused, ConfigError::Range { field, .. } if field == name), "{name}: {refused}");
    }
}

#[test]
fn references_that_cannot_be_are_refused() {
    let rule = |parts: &str, more: &str| {
        let text =
            format!("[[traits]]\nname = \"one\"\nkind = \"name\"\n[[blocking]]\nparts = [{parts}]\n{more}");
        toml::from_str::<Config>(&text).unwrap().plan().unwrap_err()
    };
    assert!(matches!(rule("", ""), ConfigError::Rule { rule: 1, .. }));
    assert!(matches!(rule("{ trait = \"other\" }", ""), ConfigError::Unknown { field: "blocking", .. }));
    let both = "sorted = true\nunordered = true";
    assert!(matches!(rule("{ trait = \"one\" }", both), ConfigError::Rule { rule: 1, .. }));

    let refused = |change: Change| {
        let mut config = names();
        change(&mut config);
        config.plan().unwrap_err()
    };
    assert_eq!(refused(|c| c.traits.clear()), ConfigError::Traits(0));
    assert_eq!(refused(|c| c.traits[1].name = "one".into()), ConfigError::Twice { name: "one".into() });
    assert_eq!(refused(|c| c.traits[1].name.clear()), ConfigError::Nameless);
    assert!(matches!(
        refused(|c| c.traits[0].given = Some("x".into())),
        ConfigError::Unknown { field: "given", .. }
    ));
    assert!(matches!(refused(|c| c.traits[0].given = Some("one".into())), ConfigError::Partner { .. }));
    assert!(matches!(refused(|c| c.traits[0].swaps_with = Some("one".into())), ConfigError::Partner { .. }));
    let circle: Change = |c| {
        c.traits[0].given = Some("two".into());
        c.traits[1].given = Some("one".into());
    };
    assert!(matches!(refused(circle), ConfigError::Partner { .. }));
}
