//! Every quantised format as another program reads it; `fixtures/formats/make.py` says which.

use std::fs;
use std::path::Path;

use kernels::blocks::{BlockKind, dequantise};
use kernels::pack::PackedMatrix;
use kernels::pool::Pool;

/// Values of each file.
const VALUES: usize = 768;

/// The blocks of a kind and their values.
fn fixture(kind: BlockKind) -> (Vec<u8>, Vec<f32>) {
    let name = match kind {
        BlockKind::Iq4Nl => "iq4_nl".to_string(),
        BlockKind::Iq4Xs => "iq4_xs".to_string(),
        kind => format!("{kind:?}").to_lowercase(),
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/formats");
    let mut blocks = fs::read(folder.join(format!("{name}.bin"))).unwrap();
    let values = blocks.split_off(kind.bytes_of(VALUES));
    let values = values.chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap()));
    (blocks, values.collect())
}

fn bits(values: &[f32]) -> Vec<u32> {
    // Of zero the sign does not count: zero codes have none.
    values.iter().map(|value| (value + 0.0).to_bits()).collect()
}

#[test]
fn blocks_are_read_as_the_format_says_as_they_stand_and_packed() {
    for kind in BlockKind::ALL.into_iter().filter(|kind| kind.is_quantised()) {
        let (blocks, expected) = fixture(kind);
        assert_eq!(expected.len(), VALUES, "{kind:?}");
        let mut values = vec![f32::NAN; VALUES];
        dequantise(kind, &blocks, &mut values);
        assert_eq!(bits(&values), bits(&expected), "{kind:?}");

        let packed = PackedMatrix::pack(&mut Pool::new(1), kind, (1, VALUES), &blocks);
        packed.read_row(0, &mut values);
        assert_eq!(bits(&values), bits(&expected), "{kind:?}, packed");
    }
}
