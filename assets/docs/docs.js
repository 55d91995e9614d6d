// Shows /openapi.json. What is typed under "Authorize" stays in this page, and is gone with it.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  persistAuthorization: false,
  // No other host is asked for anything.
  validatorUrl: null,
});
