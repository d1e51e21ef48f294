//! Writes the seeds of the fuzz target `image_check`. Enters: nothing. Leaves: `fuzz/seeds/image_check/*.intact`.

use runtime::testing::{lookup, zoo, zoo_packed};
use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/image_check");
    fs::create_dir_all(&folder)?;
    for (name, file) in [("zoo.intact", zoo()), ("zoo-packed.intact", zoo_packed()), ("lookup.intact", lookup())] {
        let part = folder.join(format!("{name}.part"));
        fs::write(&part, file)?;
        fs::rename(part, folder.join(name))?;
    }
    Ok(())
}
