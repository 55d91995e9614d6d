//! `GET /models`: the catalogue, for whoever writes devices.

use http::{Response, StatusCode};
use serde::Serialize;

use super::parameters;
use super::problem::{Failure, Kind as ProblemKind, Problem};
use crate::record::device::Function;
use crate::record::settings::Setting;
use crate::request::Request;
use crate::vendor::{CertificateMac, Generation, VendorId};

/// The catalogue.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub(crate) struct Models {
    /// The models.
    items: Vec<ShownModel>,
}

/// A model as `GET /models` shows it.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "Model"))]
pub(crate) struct ShownModel {
    /// Who makes it.
    vendor: VendorId,
    /// Its name in records.
    model: &'static str,
    /// Which syntax and file names its firmware knows.
    generation: Generation,
    /// How many accounts it registers.
    lines: u8,
    /// How many keys can be set, on all pages together.
    keys: u16,
    /// How many expansion modules it takes, and how many keys each has.
    modules: u8,
    /// How many keys each expansion module has.
    module_keys: u16,
    /// What its keys can do.
    buttons: &'static [Function],
    /// The settings that it does not follow.
    lacks: &'static [Setting],
    /// Whether its serial can be told from its MAC, so that it proves nothing.
    serial_tells_from_mac: bool,
    /// Where its factory certificate names its MAC.
    certificate_mac: CertificateMac,
    /// The `Event` of a NOTIFY that makes it fetch, and of one that makes it start anew.
    resync_event: &'static str,
    /// The `Event` of a NOTIFY that makes it start anew.
    reboot_event: &'static str,
}

/// Lists the models, of one vendor if the query names it.
///
/// # Errors
/// A [`Failure`] for a parameter that there is not.
pub fn list(request: &Request) -> Result<Response<Vec<u8>>, Failure> {
    let mut wanted = VendorId::ALL.to_vec();
    for (name, value) in parameters(request) {
        wanted.retain(|vendor| vendor.name() == value);
        if name != "vendor" || wanted.is_empty() {
            let detail = "the only parameter is vendor, with the name of a vendor";
            return Err(Problem::new(ProblemKind::BadParameter, detail).into());
        }
    }
    let items = wanted.into_iter().flat_map(|vendor| {
        let rules = vendor.rules();
        let facts = rules.facts();
        rules.models().iter().map(move |model| ShownModel {
            vendor,
            model: model.name,
            generation: model.generation,
            lines: model.lines,
            keys: model.keys,
            modules: model.modules,
            module_keys: model.module_keys,
            buttons: rules.functions(model),
            lacks: rules.lacks(model),
            serial_tells_from_mac: facts.serial_tells_from_mac,
            certificate_mac: facts.certificate,
            resync_event: facts.resync,
            reboot_event: facts.reboot,
        })
    });
    let items = items.collect();
    super::json(StatusCode::OK, &Models { items })
}
