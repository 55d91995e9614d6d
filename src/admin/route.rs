//! The routes of the admin API: one table says which there are, who may call them, and what answers.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, Response};

use super::caller::{Caller, Role};
use super::problem::{Failure, FieldError, Kind as ProblemKind, Problem};
use super::save::Context;
use super::{
    accept, account, audit, batch, device, explain, list, models, no_parameters, one, plan,
    preview, resync, rollout, session, status, token, version,
};
use crate::cached::Batching;
use crate::fault::Fault;
use crate::key::Kind;
use crate::mac::Mac;
use crate::record::account::Account;
use crate::record::device::Device;
use crate::record::pbx::Pbx;
use crate::record::profile::Profile;
use crate::record::rule::Rule;
use crate::record::tenant::Tenant;
use crate::record::token::Token;
use crate::request::Request;
use crate::text::Id;

/// What the holder of one tenant's token gets of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The same as everybody: there is nothing of any tenant in it.
    Everyone,
    /// What is that tenant's. All else is as if it were not there.
    Tenant,
    /// Nothing: it is for the operator of this Dialtone.
    Operator,
}

/// A method of a path.
#[derive(Debug)]
pub struct Route {
    /// The method; a GET answers HEAD too.
    pub method: Method,
    /// The path below `/api/v1/`. What a caller puts in stands in braces: `{mac}` a device's MAC,
    /// `{name}` a file's name, everything else an id of what it is called by.
    pub path: &'static str,
    /// The least role that may call it.
    pub least: Role,
    /// What the holder of one tenant's token gets.
    pub scope: Scope,
}

/// Makes [`ROUTES`] and what answers them of one table, in which each line is
/// `path: METHOD Role Scope, ... => answer`. Of two lines that match a path the first holds.
macro_rules! routes {
    (
        ($world:ident, $context:ident, $request:ident, $given:ident)
        $($path:literal: $($method:ident $least:ident $scope:ident),+ => $answer:expr;)+
    ) => {
        /// Every route, in order.
        pub static ROUTES: &[Route] = &[$($(Route {
            method: Method::$method,
            path: $path,
            least: Role::$least,
            scope: Scope::$scope,
        },)+)+];

        async fn dispatch<W: Batching>(
            route: &Route,
            $world: &W,
            $context: &Context,
            $request: &Request,
            $given: &Given,
        ) -> Result<Response<Vec<u8>>, Failure> {
            // Boxed, since together they would be as large as the largest, and on the stack.
            match route.path {
                $($path => Box::pin(async { $answer }).await,)+
                _ => Err(Fault::Broken("route").into()),
            }
        }
    };
}

routes! {
    (world, context, request, given)

    "status": GET Reader Tenant => status::all(world, context, request).await;
    "models": GET Reader Everyone => models::list(request);

    "tenants": GET Reader Tenant => list(world, context, request, Kind::Tenant).await;
    "tenants/{tenant}": GET Reader Tenant, PUT Owner Tenant, PATCH Owner Tenant, DELETE Owner Operator
        => one::<Tenant, W>(world, context, request, &given.id).await;
    "tenants/{tenant}/rollout": GET Reader Tenant, POST Operator Tenant => {
        no_parameters(request)?;
        rollout::of_tenant(world, context, request, &given.id).await
    };
    "profiles": GET Reader Tenant => list(world, context, request, Kind::Profile).await;
    "profiles/{profile}": GET Reader Tenant, PUT Operator Tenant, PATCH Operator Tenant, DELETE Operator Tenant
        => one::<Profile, W>(world, context, request, &given.id).await;
    "profiles/{profile}/rollout": GET Reader Tenant, POST Operator Tenant => {
        no_parameters(request)?;
        rollout::answer(world, context, request, &given.id).await
    };
    "pbxes": GET Reader Tenant => list(world, context, request, Kind::Pbx).await;
    "pbxes/{pbx}": GET Reader Tenant, PUT Operator Tenant, PATCH Operator Tenant, DELETE Operator Tenant
        => one::<Pbx, W>(world, context, request, &given.id).await;
    "pbxes/{pbx}/plan": GET Reader Tenant => {
        no_parameters(request)?;
        plan::show(world, context, &given.id).await
    };
    "pbxes/{pbx}/confirm": POST Operator Tenant => {
        no_parameters(request)?;
        plan::confirm(world, context, request, &given.id).await
    };
    "accounts": GET Reader Tenant => list(world, context, request, Kind::Account).await;
    "accounts/batch": POST Operator Tenant => batch::run::<Account, W>(world, context, request).await;
    "accounts/export": GET Reader Tenant
        => batch::export::run::<Account, W>(world, context, request).await;
    "accounts/{account}": GET Reader Tenant, PUT Operator Tenant, PATCH Operator Tenant, DELETE Operator Tenant
        => one::<Account, W>(world, context, request, &given.id).await;
    "accounts/{account}/rotate": POST Operator Tenant => {
        no_parameters(request)?;
        account::rotate(world, context, request, &given.id).await
    };
    "accounts/{account}/status": GET Reader Tenant => {
        no_parameters(request)?;
        status::account(world, context, &given.id).await
    };
    "rules": GET Reader Tenant => list(world, context, request, Kind::Rule).await;
    "rules/{rule}": GET Reader Tenant, PUT Operator Tenant, PATCH Operator Tenant, DELETE Operator Tenant
        => one::<Rule, W>(world, context, request, &given.id).await;

    "devices": GET Reader Tenant => list(world, context, request, Kind::Device).await;
    "devices/batch": POST Operator Tenant => batch::run::<Device, W>(world, context, request).await;
    "devices/export": GET Reader Tenant
        => batch::export::run::<Device, W>(world, context, request).await;
    "devices/{mac}": GET Reader Tenant, PUT Operator Tenant, PATCH Operator Tenant, DELETE Operator Tenant
        => one::<Device, W>(world, context, request, &given.id).await;
    "devices/{mac}/status": GET Reader Tenant => {
        no_parameters(request)?;
        status::one(world, context, given.mac()?).await
    };
    "devices/{mac}/settings": GET Reader Tenant => {
        no_parameters(request)?;
        device::settings(world, context, given.mac()?).await
    };
    "devices/{mac}/session": GET Reader Tenant, PUT Operator Tenant, DELETE Operator Tenant
        => session::answer(world, context, request, given.mac()?).await;
    "devices/{mac}/files": GET Reader Tenant => {
        no_parameters(request)?;
        device::files(world, context, given.mac()?).await
    };
    "devices/{mac}/files/{name}": GET Reader Tenant
        => device::preview(world, context, request, given.mac()?, &given.name).await;
    "devices/{mac}/diff": GET Reader Tenant
        => version::diff(world, context, request, given.mac()?).await;
    "devices/{mac}/rollback": POST Operator Tenant
        => version::rollback(world, context, request, given.mac()?).await;
    "devices/{mac}/unpin": POST Operator Tenant
        => version::unpin(world, context, request, given.mac()?).await;
    "devices/{mac}/arm": POST Operator Tenant
        => device::act(world, context, request, given.mac()?, "arm").await;
    "devices/{mac}/rotate": POST Operator Tenant
        => device::act(world, context, request, given.mac()?, "rotate").await;
    "devices/{mac}/revoke": POST Operator Tenant
        => device::act(world, context, request, given.mac()?, "revoke").await;

    "devices/{mac}/release": POST Operator Tenant
        => device::act(world, context, request, given.mac()?, "release").await;

    "devices/{mac}/resync": POST Operator Tenant
        => resync::now(world, context, request, given.mac()?).await;

    "audit": GET Reader Tenant => audit::answer(world, context, request).await;
    "preview": POST Operator Tenant => preview::show(world, context, request).await;
    "explain": POST Reader Tenant => {
        no_parameters(request)?;
        explain::explain(world, context, request).await
    };

    "tokens": GET Reader Tenant => list(world, context, request, Kind::Token).await;
    "tokens/{token}": GET Reader Tenant, PUT Owner Tenant, PATCH Owner Tenant, DELETE Owner Tenant
        => one::<Token, W>(world, context, request, &given.id).await;
    "tokens/{token}/rotate": POST Owner Tenant
        => token::rotate(world, context, request, &given.id).await;
}

/// What a caller put into a path, as it stands in keys.
#[derive(Debug, Default)]
struct Given {
    id: String,
    name: String,
}

impl Given {
    fn mac(&self) -> Result<Mac, Fault> {
        self.id.parse().map_err(|_| Fault::Broken("mac in path"))
    }
}

/// Answers a call of whoever was let in. The role and the scope are checked before anything is read.
///
/// # Errors
/// A [`Failure`], of the call or ours.
pub(super) async fn answer<W: Batching>(
    world: &W,
    context: &Context,
    request: &Request,
) -> Result<Response<Vec<u8>>, Failure> {
    let path = request.path.strip_prefix("/api/v1/").unwrap_or_default();
    let route = find(&request.method, path)?;
    allow(route, &context.caller)?;
    let given = given(route.path, path)?;
    // Before it does anything; and what only reads is judged by what it answers.
    let reads = route.method == Method::GET;
    if !reads && route.method != Method::DELETE {
        takes(request, "application/json")?;
    }
    let response = dispatch(route, world, context, request, &given).await?;
    let content_type = response.headers().get(CONTENT_TYPE);
    if let Some(Ok(content_type)) = content_type.filter(|_| reads).map(HeaderValue::to_str) {
        takes(request, content_type)?;
    }
    Ok(response)
}

/// Refuses a caller that does not take what it would get.
fn takes(request: &Request, content_type: &str) -> Result<(), Problem> {
    if accept::takes(request.header(ACCEPT.as_str()), content_type) {
        return Ok(());
    }
    let detail = format!("the answer is {content_type}");
    Err(Problem::new(ProblemKind::NotAcceptable, detail))
}

/// The route of a method and path.
fn find(method: &Method, path: &str) -> Result<&'static Route, Problem> {
    let first = ROUTES.iter().find(|route| matches(route.path, path));
    let Some(first) = first else {
        let detail = "there is no such route";
        return Err(Problem::new(ProblemKind::NotFound, detail));
    };
    let wanted = match method {
        &Method::HEAD => &Method::GET,
        other => other,
    };
    let methods = || ROUTES.iter().filter(|route| route.path == first.path);
    methods()
        .find(|route| route.method == *wanted)
        .ok_or_else(|| {
            let names = methods().map(|route| match &route.method {
                &Method::GET => "GET, HEAD",
                other => other.as_str(),
            });
            Problem::method(&names.collect::<Vec<_>>().join(", "))
        })
}

fn is_given(pattern: &str) -> bool {
    pattern.starts_with('{')
}

fn matches(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut there) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), there.next()) {
            (None, None) => return true,
            (Some(wanted), Some(there)) if is_given(wanted) || wanted == there => {}
            _ => return false,
        }
    }
}

/// Whether a caller may call a route at all.
fn allow(route: &Route, caller: &Caller) -> Result<(), Problem> {
    caller.needs(route.least)?;
    match route.scope {
        Scope::Everyone | Scope::Tenant => Ok(()),
        Scope::Operator => caller.needs_all_tenants(),
    }
}

/// Reads what stands in a path that matches.
fn given(pattern: &str, path: &str) -> Result<Given, Problem> {
    let mut given = Given::default();
    for (what, text) in pattern.split('/').zip(path.split('/')) {
        match what {
            "{name}" => text.clone_into(&mut given.name),
            "{mac}" => given.id = canonical(Kind::Device, text)?,
            what if is_given(what) => given.id = canonical(Kind::Tenant, text)?,
            _ => {}
        }
    }
    Ok(given)
}

/// The id in a path or cursor as it stands in keys.
pub(super) fn canonical(kind: Kind, id: &str) -> Result<String, Problem> {
    let id = percent_encoding::percent_decode_str(id)
        .decode_utf8()
        .map_err(|_| Problem::new(ProblemKind::NotFound, "the id in the path is not UTF-8"))?;
    if kind == Kind::Device {
        return id
            .parse::<Mac>()
            .map(|mac| mac.to_string())
            .map_err(|error| Problem::invalid(vec![FieldError::new("/mac", format!("{error}"))]));
    }
    Id::try_from(id.as_ref())
        .map(|id| id.to_string())
        .map_err(|error| Problem::invalid(vec![FieldError::new("/id", error)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_finds_its_line_and_a_wrong_method_those_that_there_are() {
        let found = |method: Method, path: &str| find(&method, path).map(|route| route.path);
        assert_eq!(found(Method::GET, "status"), Ok("status"));
        assert_eq!(found(Method::HEAD, "rules/a"), Ok("rules/{rule}"));
        let file = "devices/{mac}/files/{name}";
        assert_eq!(found(Method::GET, "devices/x/files/ACC.cfg"), Ok(file));
        assert_eq!(
            found(Method::POST, "pbxes/a"),
            Err(Problem::method("GET, HEAD, PUT, PATCH, DELETE"))
        );
        assert_eq!(
            found(Method::GET, "devices/x/arm"),
            Err(Problem::method("POST"))
        );
        for nowhere in ["", "phones", "status/", "rules/a/b", "devices/x/files/a/b"] {
            let problem = found(Method::GET, nowhere).unwrap_err();
            assert_eq!(problem.respond_to("").status(), 404, "{nowhere}");
        }
    }

    #[test]
    fn no_path_has_a_method_twice_and_none_hides_another() {
        for (n, route) in ROUTES.iter().enumerate() {
            let same = |other: &&Route| other.path == route.path && other.method == route.method;
            assert_eq!(ROUTES.iter().filter(same).count(), 1, "{route:?}");
            let earlier = ROUTES
                .iter()
                .take(n)
                .find(|earlier| earlier.path != route.path && matches(earlier.path, route.path));
            assert!(earlier.is_none(), "{earlier:?} hides {route:?}");
        }
    }
}
