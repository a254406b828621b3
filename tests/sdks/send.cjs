// Sends events by Segment's SDK for Node: send.cjs HOST WRITE_KEY PREFIX USERS plain
//
// Seven events of each user. Prints one JSON object: how many were sent, and of how many the SDK says that it failed.

const { Analytics } = require("@segment/analytics-node");

const [host, writeKey, prefix, users] = process.argv.slice(2);
const analytics = new Analytics({ writeKey, host, flushAt: 100, flushInterval: 100, maxRetries: 10 });
let sent = 0;
let failed = 0;
analytics.on("error", () => (failed += 1));
for (let n = 0; n < Number(users); n += 1) {
  const userId = `${prefix}-${n}`;
  analytics.identify({ userId, traits: { email: `${userId}@example.com`, plan: "free" } });
  for (let k = 0; k < 3; k += 1) {
    analytics.track({ userId, event: "Bought", properties: { revenue: 1.5 } });
  }
  analytics.page({ userId, category: "shop", name: "Home", properties: { path: "/" } });
  analytics.group({ userId, groupId: `${prefix}-group`, traits: { name: "Group" } });
  analytics.alias({ userId, previousId: `${userId}-old` });
  sent += 7;
}
analytics.closeAndFlush({ timeout: 60000 }).then(() => console.log(JSON.stringify({ sent, failed })));
