// A Service Bus namespace with the two queues. Standard, since Basic has neither duplicate detection nor a schedule.

@description('Name of the namespace.')
param name string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Names of the queues.')
param queues array

@description('Object id of the identity that sends and receives.')
param identityPrincipalId string

resource namespace 'Microsoft.ServiceBus/namespaces@2022-10-01-preview' = {
  name: name
  location: location
  tags: tags
  sku: {
    name: 'Standard'
    tier: 'Standard'
  }
  properties: {
    disableLocalAuth: true
    minimumTlsVersion: '1.2'
    publicNetworkAccess: 'Enabled'
  }
}

// The values fit host.json and our own deadlines: docs/operations-in-azure.md has the arithmetic.
@batchSize(1)
resource queue 'Microsoft.ServiceBus/namespaces/queues@2022-10-01-preview' = [for queueName in queues: {
  parent: namespace
  name: queueName
  properties: {
    // Can be chosen only now: a queue cannot change it later.
    requiresDuplicateDetection: true
    duplicateDetectionHistoryTimeWindow: 'PT10M'
    lockDuration: 'PT5M'
    maxDeliveryCount: 10
    deadLetteringOnMessageExpiration: true
    defaultMessageTimeToLive: 'P14D'
    maxSizeInMegabytes: 5120
    enablePartitioning: false
  }
}]

// Receiver for the triggers, Sender for what we send ourselves. Reader lets the scale controller count messages: without a
// right to read the queues it estimates by peeking, without saying so (MicrosoftDocs/azure-docs pull request 128626). Data
// Owner would do too, and far more; Reader on the namespace sees its configuration and no message.
var roles = {
  serviceBusDataReceiver: '4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0'
  serviceBusDataSender: '69a216fc-b8fb-44d8-bc22-1f3c2cd27a39'
  reader: 'acdd72a7-3385-48ef-bd42-f606fba81ae7'
}

resource assignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for role in items(roles): {
  name: guid(namespace.id, identityPrincipalId, role.value)
  scope: namespace
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role.value)
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
  }
}]

@description('Host name of the namespace, without scheme and port.')
output fullyQualifiedNamespace string = split(split(namespace.properties.serviceBusEndpoint, '//')[1], ':')[0]
