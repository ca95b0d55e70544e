// Prints what Redocly's recommended rules find in an OpenAPI document, one fault on a line.
import { createConfig, lint } from '@redocly/openapi-core';

const config = await createConfig({ extends: ['recommended'] });
for (const { ruleId, message, location } of await lint({ ref: process.argv[2], config })) {
  console.log(`${ruleId} at ${location[0].pointer}: ${message.replaceAll('\n', ' ')}`);
}
