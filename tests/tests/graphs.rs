//! `intact graphs` as a person uses it: a file of networks, the same every time; figures and a drawing; and what is refused.

use intact_tests::command::intact;
use std::fs;

#[test]
fn networks_are_drawn_shown_and_the_same_every_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let draw = |name: &str, seed: &str| {
        let file = path(name);
        let arguments =
            ["graphs", "generate", "--space", "edge", "--split", "id", "--count", "6", "--seed", seed, "--out", &file];
        let ran = intact(&arguments).expect(0);
        assert!(ran.stdout.contains("6 networks in"), "{}", ran.stdout);
        fs::read(file).unwrap()
    };
    let first = draw("a.graphs", "7");
    assert_eq!(first, draw("b.graphs", "7"));
    assert_ne!(first, draw("c.graphs", "8"));
    assert!(first.len() < 6 * 300, "{} bytes for 6 networks", first.len());
    let all = intact(&["graphs", "show", &path("a.graphs")]).expect(0);
    for part in ["edge id, seed 7", "at most 384,000 parameters", "6 of 6 networks", "MACs", "arena bytes"] {
        assert!(all.stdout.contains(part), "no `{part}` in {}", all.stdout);
    }
    let one = intact(&["graphs", "show", &path("a.graphs"), "--index", "5", "--svg", &path("net.svg"), "--json"]);
    let one: serde_json::Value = serde_json::from_str(&one.expect(0).stdout).unwrap();
    let drawing = fs::read_to_string(path("net.svg")).unwrap();
    assert!(drawing.starts_with("<svg ") && drawing.contains(one["code"].as_str().unwrap()));
    let boxes = drawing.matches("<g><title>").count() as u64;
    assert_eq!(one["statistics"]["nodes"].as_u64(), Some(boxes));
}

#[test]
fn what_makes_no_networks_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.graphs").to_string_lossy().into_owned();
    let generate = |more: &[&str]| intact(&[&["graphs", "generate", "--out", &file][..], more].concat());
    generate(&["--space", "desk"]).expect(2).complains(&["found `desk`", "mobile, edge"]);
    generate(&["--space", "edge", "--split", "id-widened"]).expect(2).complains(&["id-widened", "mobile"]);
    let small = ["--space", "edge", "--split", "id", "--max-macs", "1000"];
    generate(&small).expect(2).complains(&["network 0", "keeps the caps"]);
    assert!(!folder.path().join("a.graphs").exists());
    generate(&["--space", "mobile", "--split", "deep", "--count", "2"]).expect(0);
    intact(&["graphs", "show", &file, "--index", "2"]).expect(2).complains(&["a.graphs", "--index 2", "below 2"]);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
    intact(&["graphs", "show", &file]).expect(2).complains(&["a.graphs", "length"]);
    fs::write(&file, "networks").unwrap();
    intact(&["graphs", "show", &file]).expect(2).complains(&["a.graphs", "first bytes", "`networks`"]);
}
