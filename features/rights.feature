Feature: Rights
  The agent may do what it was given a right for, [tool.erp-sandbox.agent] rights, and nothing else.

  Scenario: The agent drafts invoices, but may not delete one
    When the agent calls POST "invoices" with:
      | socid | 1 |
    Then the answer is an id, kept as "draft"
    When the agent calls DELETE "invoices/{draft}"
    Then the agent was not allowed to
    And the sandbox has 1 row in "llx_facture" where:
      | rowid | {draft} |

  Scenario: The agent reads prices, but may not change one
    When the agent calls GET "products/1"
    Then the answer contains:
      | ref   | CREPE-SUCRE |
      | price | 2.50        |
    When the agent calls PUT "products/1" with:
      | price | 0.01 |
    Then the agent was not allowed to
    And the sandbox has 1 row in "llx_product" where:
      | ref   | CREPE-SUCRE |
      | price | 2.50        |

  Scenario: The agent knows itself, and no other user
    When the agent calls GET "users/login/ai_agent_sandbox"
    Then the answer is 200
    And the answer's "admin" is "0"
    When the agent calls GET "users/login/admin"
    Then the agent was not allowed to
