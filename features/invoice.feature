Feature: Invoices
  The agent drafts an invoice, line by line, and validates it.

  Background:
    Given the agent calls POST "invoices" with the JSON:
      """
      {
        "socid": 2,
        "date": "2026-06-15",
        "ref_client": "Fête de la musique",
        "lines": [
          {"fk_product": 3, "desc": "Galette complète", "qty": 40, "subprice": 6.90, "tva_tx": 5.5},
          {"fk_product": 4, "desc": "Cidre brut 75 cl", "qty": 12, "subprice": 7.50, "tva_tx": 20}
        ]
      }
      """
    And the answer is an id, kept as "invoice"

  Scenario: A draft has its lines and totals, and no number yet
    When the agent calls GET "invoices/{invoice}"
    Then the answer contains:
      | status       | 0                  |
      | ref          | (PROV{invoice})    |
      | ref_client   | Fête de la musique |
      | lines.0.desc | Galette complète   |
      | lines.1.desc | Cidre brut 75 cl   |
      | total_ht     | 366.00             |
      | total_tva    | 33.18              |
      | total_ttc    | 399.18             |

  Scenario: A line is added, and the totals follow
    When the agent calls POST "invoices/{invoice}/lines" with:
      | desc     | Livraison |
      | qty      | 1         |
      | subprice | 12        |
      | tva_tx   | 20        |
    Then the answer is an id, kept as "line"
    And the sandbox has 3 rows in "llx_facturedet" where:
      | fk_facture | {invoice} |
    When the agent calls GET "invoices/{invoice}"
    Then the answer contains:
      | lines.2.id | {line} |
      | total_ht   | 378.00 |
      | total_ttc  | 413.58 |

  Scenario: Validated, it has the next number and is not a draft any more
    When the agent calls POST "invoices/{invoice}/validate"
    Then the answer is 200
    And the answer's "ref" is "FA2606-0005"
    And the sandbox has 1 row in "llx_facture" where:
      | rowid     | {invoice}   |
      | ref       | FA2606-0005 |
      | fk_soc    | 2           |
      | fk_statut | 1           |
      | total_ttc | 399.18      |

  Scenario: A validated invoice takes no further line
    When the agent calls POST "invoices/{invoice}/validate"
    And the agent calls POST "invoices/{invoice}/lines" with:
      | desc     | One more |
      | subprice | 5        |
    Then the answer is 400
    And the sandbox has 2 rows in "llx_facturedet" where:
      | fk_facture | {invoice} |
